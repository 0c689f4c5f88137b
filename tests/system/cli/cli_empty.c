/* SPDX-License-Identifier: Apache-2.0 */
/* A library that does nothing: a preload in name only. */
extern const int cli_empty;
const int cli_empty = 1;
