# SPDX-License-Identifier: Apache-2.0
"""cbuild.py FILES FUNCTIONS DIR: writes a C program that is work for a compiler.

Each file has many functions with nested loops, switches and inlined helpers, so that cc1
needs a good deal of memory for it. The same arguments give the same files.
"""
import os
import random
import sys

HEAD = """#include <stdint.h>
#include <stdio.h>
#include <string.h>
struct node { uint64_t a, b; int32_t c[8]; struct node *next; };
static inline uint64_t turn(uint64_t x, int by) { return x << by | x >> (64 - by); }
static inline void blend(struct node *n, uint64_t x)
{
\tfor (int i = 0; i < 8; i++)
\t\tn->c[i] += (int32_t)(turn(x, i + 1) >> 7) ^ n->c[(i + 3) & 7];
\tn->a ^= turn(n->b + x, 13);
\tn->b += n->a * 31;
}
"""


def expression(draw, depth):
    if depth == 0:
        return draw.choice(["n->a", "n->b", "x", "y", f"{draw.randrange(1, 1 << 30)}u",
                            f"(uint64_t)n->c[{draw.randrange(8)}]"])
    left, right = expression(draw, depth - 1), expression(draw, depth - 1)
    return f"({left} {draw.choice(['+', '^', '*', '&', '|', '-'])} {right})"


def function(draw, name, callees):
    lines = [f"static uint64_t {name}(struct node *n, uint64_t x, uint64_t y)", "{"]
    for _ in range(draw.randrange(2, 5)):
        shape = draw.randrange(4)
        if shape == 0:
            lines += [f"\tfor (uint64_t i = 0; i < {draw.randrange(2, 9)}; i++) {{",
                      f"\t\tx += {expression(draw, 3)} + i;",
                      "\t\tblend(n, x ^ y);", "\t}"]
        elif shape == 1:
            lines.append(f"\tswitch ({expression(draw, 2)} % {draw.randrange(4, 12)}) {{")
            for case in range(draw.randrange(3, 8)):
                lines += [f"\tcase {case}:", f"\t\ty = {expression(draw, 3)};",
                          f"\t\tblend(n, y + {case});", "\t\tbreak;"]
            lines += ["\tdefault:", "\t\ty += x;", "\t}"]
        elif shape == 2:
            lines += [f"\tif ({expression(draw, 2)} & 1)",
                      f"\t\tx = {expression(draw, 4)};",
                      "\telse", f"\t\ty ^= turn({expression(draw, 2)}, "
                      f"{draw.randrange(1, 63)});"]
        elif callees:
            lines.append(f"\tx += {draw.choice(callees)}(n, y, x);")
    lines += ["\treturn x ^ y ^ n->a;", "}"]
    return "\n".join(lines)


def source(index, functions):
    draw = random.Random(index)
    text, names = [HEAD], []
    for f in range(functions):
        name = f"f{index}_{f}"
        text.append(function(draw, name, names[-3:]))
        names.append(name)
    text.append(f"uint64_t part{index}(struct node *n, uint64_t x);")
    text += [f"uint64_t part{index}(struct node *n, uint64_t x)",
             "{", "\tuint64_t y = 1;"]
    text += [f"\ty ^= {names[i]}(n, x + {i}, y);" for i in range(0, functions, 7)]
    text.append("\treturn y;\n}\n")
    return "\n".join(text)


def main(files, functions, directory):
    os.makedirs(directory)
    for i in range(files):
        with open(f"{directory}/part{i}.c", "w") as out:
            out.write(source(i, functions))
    with open(f"{directory}/main.c", "w") as out:
        out.write(HEAD)
        for i in range(files):
            out.write(f"uint64_t part{i}(struct node *n, uint64_t x);\n")
        out.write("int main(void)\n{\n\tstruct node n = { 1, 2, { 3 }, 0 };\n"
                  "\tuint64_t x = 1;\n")
        for i in range(files):
            out.write(f"\tx = part{i}(&n, x);\n")
        out.write('\tprintf("%016llx\\n", (unsigned long long)x);\n\treturn 0;\n}\n')
    objects = " ".join(f"part{i}.o" for i in range(files))
    with open(f"{directory}/Makefile", "w") as out:
        out.write(f"CC = gcc\nCFLAGS = -O2 -g -w -fdebug-prefix-map=$(CURDIR)=.\n"
                  f"prog: main.o {objects}\n\t$(CC) -o $@ $^\n")


main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
