/* SPDX-License-Identifier: Apache-2.0 */
/* A statically linked program, which uhmm must refuse. */
int main(void)
{
	return 0;
}
