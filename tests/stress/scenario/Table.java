// SPDX-License-Identifier: Apache-2.0
import java.util.ArrayList;
import java.util.HashMap;

/** Table N: a HashMap of N entries, read by two threads. Prints checksums. */
public final class Table {
	record Entry(int i, String text, int[] list) { }

	private static int next(int state) {
		return (state * 1103515245 + 12345) & 0x7fffffff;
	}

	private static long reads(HashMap<String, Entry> table, int nr, int state) {
		long sum = 0;
		for (int n = 0; n < nr; n++) {
			state = next(state);
			// Most draws are of a tenth, as in most tables.
			int range = state % 13 > 0 ? nr / 10 : nr;
			Entry entry = table.get("key-" + (state >>> 8) % range);
			sum = sum * 31 + entry.i() + entry.text().hashCode() + entry.list().length;
		}
		return sum;
	}

	public static void main(String[] args) throws InterruptedException {
		int nr = Integer.parseInt(args[0]);
		HashMap<String, Entry> table = new HashMap<>();
		for (int i = 0; i < nr; i++)
			table.put("key-" + i, new Entry(i, "value " + i + " of " + nr, new int[i % 8]));
		System.out.println("entries " + table.size());

		long[] sums = new long[2];
		ArrayList<Thread> threads = new ArrayList<>();
		for (int t = 0; t < sums.length; t++) {
			int index = t;
			Thread thread = new Thread(() -> sums[index] = reads(table, nr, 12345 + index));
			thread.start();
			threads.add(thread);
		}
		for (Thread thread : threads)
			thread.join();
		System.out.println("random reads " + sums[0] + " " + sums[1]);

		int state = 99;
		for (int n = 0; n < nr / 4; n++) {
			state = next(state);
			String key = "key-" + (state >>> 8) % nr;
			if ((state & 16) != 0)
				table.remove(key);
			else
				table.put(key, new Entry(state >>> 8, "changed " + key, new int[3]));
		}
		long sum = 0;
		for (var item : table.entrySet())
			sum += (long)item.getKey().hashCode() * item.getValue().i()
				+ item.getValue().text().hashCode();
		System.out.println("scan " + table.size() + " " + sum);

		int nulls = 0; // null checks that the machine makes by SIGSEGV
		Entry[] entries = new Entry[1000];
		for (int n = 0; n < entries.length; n++) {
			try {
				sum += entries[n].i();
			} catch (NullPointerException expected) {
				nulls++;
			}
		}
		System.out.println("nulls " + nulls);
	}
}
