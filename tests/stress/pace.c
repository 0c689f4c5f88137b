/* SPDX-License-Identifier: Apache-2.0 */
/* Prints how many times longer than elsewhere a test may take here: tests/pace.h. */
#include <stdio.h>

#include "pace.h"

int main(void)
{
	printf("%u\n", test_pace());
	return 0;
}
