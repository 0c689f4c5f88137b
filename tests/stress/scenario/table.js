// SPDX-License-Identifier: Apache-2.0
// table.js N: a Map of N objects, and Buffers. Prints checksums.
"use strict";
const nr = Number(process.argv[2]);
let state = 12345;

function draw(limit) {
	state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
	return (state >>> 8) % limit;
}

// Most draws are of a tenth, as in most tables.
function pick() {
	return draw(draw(16) ? nr / 10 : nr);
}

function mix(sum, value) {
	return (Math.imul(sum, 31) + value) >>> 0;
}

const table = new Map();
for (let i = 0; i < nr; i++)
	table.set(`key-${i}`, { i, text: `value ${i} of ${nr}`, list: [i, i + 1, i * 0.5] });
console.log("entries", table.size);

let sum = 0;
for (let i = 0; i < nr; i++) {
	const entry = table.get(`key-${pick()}`);
	sum = mix(sum, entry.i + entry.text.length + entry.list.length);
}
console.log("random reads", sum);

for (let i = 0; i < nr / 4; i++) {
	const key = `key-${pick()}`;
	if (draw(2))
		table.delete(key);
	else
		table.set(key, { i: draw(nr), text: `changed ${key}`, list: [] });
}
sum = 0;
for (const [key, entry] of table)
	sum = mix(sum, entry.i + entry.text.length + key.length + entry.list.length);
console.log("scan", table.size, sum);

const buffers = [];
for (let i = 0; i < nr / 4000; i++) {
	const buffer = Buffer.alloc(1 << 18);
	for (let at = 0; at < buffer.length; at += 64)
		buffer.writeUInt32LE((i * 4096 + at) >>> 0, at);
	buffers.push(buffer);
}
sum = 0;
for (let n = 0; n < 20000; n++) {
	const i = draw(buffers.length), at = draw(4096) * 64;
	const value = buffers[i].readUInt32LE(at);
	if (value !== i * 4096 + at)
		throw new Error(`buffer ${i} at ${at} holds ${value}`);
	sum = mix(sum, value);
}
console.log("buffers", buffers.length, sum);
