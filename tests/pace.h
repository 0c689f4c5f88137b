/* SPDX-License-Identifier: Apache-2.0 */
/* How slow this machine is: for limits that are there to end what hangs. */
#ifndef TEST_PACE_H
#define TEST_PACE_H

/*
 * How many times longer than elsewhere a test may take here: 1 to 8. TEST_PACE in the
 * environment says it instead. Not thread-safe.
 */
unsigned test_pace(void);

#endif
