/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A graph whose degrees follow a power law, searched breadth first, and its PageRank: a
 * program that programs.py runs.
 *
 * R-MAT (Chakrabarti et al., SDM 2004; a, b, c, d = 0.57, 0.19, 0.19, 0.05 as in
 * Graph500), made row by row: what a row's bits are gives the share of all edges that it
 * has, and for each of its edges how likely the bits of the column are. So the edges are
 * written once and in order, and there is no list of them to be sorted. An edge is 8
 * bytes, as igraph has it; a vertex's edges lie side by side. Vertices are not renamed:
 * those with small numbers have most edges.
 *
 * The search goes along the edges, to whom each vertex has; for PageRank they are those
 * that point at it. What dangles gives its rank to nobody.
 *
 * Prints a line as each phase begins (bench/phases.py), and a checksum of all distances
 * and ranks, which is the same on any machine with IEEE floats.
 */
#include <err.h>
#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* P(row bit is 0): a + b. P(column bit is 1), of 4096: b / (a + b) or d / (c + d). */
#define ROW_ZERO 0.76
#define COLUMN_ONE_AT_ZERO 1024u
#define COLUMN_ONE_AT_ONE 853u
#define BITS_OF_CHANCE 12u
#define DAMPING 0.85f
#define FAR UINT32_MAX

static struct options {
	unsigned scale, degree, rounds;
	uint64_t seed;
} opt = {
	.scale = 20,
	.degree = 38,
	.rounds = 3,
	.seed = 1,
};

static size_t nr_vertices;
static uint64_t *first; /* of each vertex, and one more */
static uint64_t *edges;
static uint64_t state;

static void *array(size_t nr, size_t size)
{
	void *p = calloc(nr, size);

	if (!p)
		err(2, "no memory for %zu times %zu bytes", nr, size);
	return p;
}

static uint64_t next_random(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * UINT64_C(0x2545f4914f6cdd1d);
}

/* ---- the graph --------------------------------------------------------------------- */

/* How many edges a vertex has: its share of all, and the rest by chance. */
static uint64_t degree_of(size_t vertex)
{
	double share = (double)nr_vertices * opt.degree;
	unsigned bit;

	for (bit = 0; bit < opt.scale; bit++)
		share *= vertex >> bit & 1 ? 1 - ROW_ZERO : ROW_ZERO;
	return (uint64_t)(share + (double)(next_random() >> 11) * 0x1p-53);
}

static uint32_t column_of(size_t vertex)
{
	uint32_t column = 0;
	uint64_t chance = 0;
	unsigned bit, left = 0;

	for (bit = 0; bit < opt.scale; bit++) {
		uint32_t one = vertex >> bit & 1 ? COLUMN_ONE_AT_ONE : COLUMN_ONE_AT_ZERO;

		if (left < BITS_OF_CHANCE) {
			chance = next_random();
			left = 64;
		}
		column |= (uint32_t)((chance & 4095) < one) << bit;
		chance >>= BITS_OF_CHANCE;
		left -= BITS_OF_CHANCE;
	}
	return column;
}

static void generate(void)
{
	uint64_t i, nr = 0;
	size_t v;

	state = opt.seed * 2 + 1;
	first = array(nr_vertices + 1, sizeof(*first));
	for (v = 0; v < nr_vertices; v++) {
		first[v] = nr;
		nr += degree_of(v);
	}
	first[nr_vertices] = nr;
	edges = array(nr, sizeof(*edges));
	for (v = 0; v < nr_vertices; v++)
		for (i = first[v]; i < first[v + 1]; i++)
			edges[i] = column_of(v);
}

/* ---- what is asked about it -------------------------------------------------------- */

static uint64_t checksum = UINT64_C(0xcbf29ce484222325);

static void add(uint32_t word)
{
	checksum = (checksum ^ word) * UINT64_C(0x100000001b3);
}

/* From vertex 0; returns how many it reaches. */
static size_t search(void)
{
	uint32_t *distance = array(nr_vertices, sizeof(*distance));
	uint32_t *queue = array(nr_vertices, sizeof(*queue));
	size_t v, head = 0, tail = 1;
	uint64_t i;

	for (v = 1; v < nr_vertices; v++)
		distance[v] = FAR;
	while (head < tail) {
		v = queue[head++];
		for (i = first[v]; i < first[v + 1]; i++) {
			size_t to = edges[i];

			if (distance[to] == FAR) {
				distance[to] = distance[v] + 1;
				queue[tail++] = (uint32_t)to;
			}
		}
	}
	for (v = 0; v < nr_vertices; v++)
		add(distance[v]);
	free(distance);
	free(queue);
	return tail;
}

static void rank_all(void)
{
	uint32_t *out = array(nr_vertices, sizeof(*out));
	float *rank = array(nr_vertices, sizeof(*rank));
	float *share = array(nr_vertices, sizeof(*share));
	uint64_t i;
	unsigned round;
	size_t v;

	for (i = 0; i < first[nr_vertices]; i++)
		out[edges[i]]++;
	for (v = 0; v < nr_vertices; v++)
		rank[v] = 1.0f / (float)nr_vertices;
	for (round = 0; round < opt.rounds; round++) {
		for (v = 0; v < nr_vertices; v++)
			share[v] = out[v] ? rank[v] / (float)out[v] : 0;
		for (v = 0; v < nr_vertices; v++) {
			float sum = 0;

			for (i = first[v]; i < first[v + 1]; i++)
				sum += share[edges[i]];
			rank[v] = (1 - DAMPING) / (float)nr_vertices + DAMPING * sum;
		}
	}
	for (v = 0; v < nr_vertices; v++) {
		uint32_t word;

		memcpy(&word, &rank[v], sizeof(word));
		add(word);
	}
	free(out);
	free(rank);
	free(share);
}

/* ---- what it is told --------------------------------------------------------------- */

static unsigned number(const char *text, unsigned most)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (end == text || *end != '\0' || n == 0 || n > most)
		errx(2, "'%s': 1 to %u", text, most);
	return (unsigned)n;
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "scale", required_argument, NULL, 's' },
		{ "degree", required_argument, NULL, 'd' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "seed", required_argument, NULL, 'x' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			opt.scale = number(optarg, 28);
		else if (c == 'd')
			opt.degree = number(optarg, 1024);
		else if (c == 'r')
			opt.rounds = number(optarg, 1000);
		else if (c == 'x')
			opt.seed = number(optarg, UINT32_MAX);
		else
			errx(2, "usage: bench-graph [--scale=N] [--degree=N] "
				"[--rounds=N] [--seed=N]");
	}
	nr_vertices = (size_t)1 << opt.scale;
}

int main(int argc, char **argv)
{
	size_t reached;

	parse(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("phase fill");
	generate();
	puts("phase bfs");
	reached = search();
	puts("phase pagerank");
	rank_all();
	puts("phase end");
	printf("checksum %016llx-%zu-%llu\n", (unsigned long long)checksum, reached,
	       (unsigned long long)first[nr_vertices]);
	free(first);
	free(edges);
	return 0;
}
