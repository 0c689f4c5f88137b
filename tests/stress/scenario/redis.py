# SPDX-License-Identifier: Apache-2.0
"""redis.py KEYS WRAP...: drives a redis-server that is started by WRAP.

Only the server is under test; this client and the server that loads the dump are not.
Every value follows from its key, so each is checked wherever it is read. DEBUG DIGEST of
the server at the time of BGSAVE must be that of the server that loads the file.
Prints what must be the same in every run; exits with the server's status, or 1.
"""
import hashlib
import os
import socket
import subprocess
import sys
import time

BATCH = 200


class Client:
    """Just enough of the protocol."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.file = self.sock.makefile("rb", 1 << 16)

    def send(self, commands):
        out = []
        for command in commands:
            out.append(b"*%d\r\n" % len(command))
            for word in command:
                word = word if isinstance(word, bytes) else str(word).encode()
                out.append(b"$%d\r\n%s\r\n" % (len(word), word))
        self.sock.sendall(b"".join(out))

    def reply(self):
        line = self.file.readline()
        if not line:
            raise SystemExit("redis: the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise SystemExit("redis: " + rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        return rest

    def many(self, commands):
        self.send(commands)
        return [self.reply() for _ in commands]

    def one(self, *command):
        return self.many([command])[0]


def value(i, generation):
    """96 bytes of which 16 are random, repeated up to 32 times."""
    noise = hashlib.blake2b(b"%d %d" % (i, generation), digest_size=8).hexdigest()
    text = "%s{user:%d,state:active,generation:%d}" % (noise, i, generation)
    return (text * 3)[:96].encode() * (1 << int(noise[0], 16) % 6)


def start(words, directory, name, extra):
    path = os.path.join(directory, name + ".sock")
    server = subprocess.Popen(
        words + ["./redis-server", "--port", "0", "--unixsocket", path, "--save", "",
                 "--dir", directory, "--dbfilename", "dump.rdb", "--activedefrag", "no",
                 "--jemalloc-bg-thread", "yes", "--enable-debug-command", "yes",
                 "--appendonly", "no"] + extra,
        stdout=open(os.path.join(directory, name + ".log"), "w"))
    for _ in range(1200):
        try:
            client = Client(path)
            client.one("PING")
            return server, client
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.05)
        except SystemExit as error:  # still loading its file
            if "LOADING" not in str(error):
                raise
            time.sleep(0.05)
        if server.poll() is not None:
            break
    raise SystemExit(f"redis: no answer, status {server.poll()}")


def fill(client, nr):
    for at in range(0, nr, BATCH):
        keys = range(at, min(at + BATCH, nr))
        client.many([("SET", f"key:{i}", value(i, 0)) for i in keys])
        client.many([("HSET", f"hash:{at}", "at", at, "nr", nr, "who", f"hash {at}"),
                     ("RPUSH", f"list:{at}") + tuple(keys),
                     ("ZADD", f"zset:{at}") + tuple(w for i in keys
                                                    for w in (i * 7 % 101, f"m{i}"))])


def saving(client):
    return b"rdb_bgsave_in_progress:1" in client.one("INFO", "persistence")


def verify(client, nr, generation, when, change_to=None):
    """Reads every key; with change_to, writes every third one anew as it goes."""
    for at in range(0, nr, BATCH):
        keys = list(range(at, min(at + BATCH, nr)))
        for i, got in zip(keys, client.many([("GET", f"key:{i}") for i in keys])):
            if got != value(i, generation(i)):
                raise SystemExit(f"redis: {when}: key {i}: {len(got or b'')} bytes, "
                                 f"{(got or b'')[:80]!r}")
        if change_to:
            client.many([("SET", f"key:{i}", value(i, change_to)) for i in keys
                         if i % 3 == 0])


def save_and_wait(client):
    while saving(client):
        time.sleep(0.02)
    if b"rdb_last_bgsave_status:ok" not in client.one("INFO", "persistence"):
        raise SystemExit("redis: BGSAVE failed")


def load_elsewhere(directory, name):
    server, client = start([], directory, name, [])
    result = client.one("DEBUG", "DIGEST"), client.one("DBSIZE")
    client.send([("SHUTDOWN", "NOSAVE")])
    server.wait()
    os.unlink(os.path.join(directory, "dump.rdb"))
    return result


def must_match(what, saved, loaded):
    print(what, "saved and loaded", "match" if saved == loaded else "DIFFER")
    if saved != loaded:
        raise SystemExit(f"redis: {what}: {saved} was saved and {loaded} loaded")


def benchmark(directory, tests, nr):
    subprocess.run(["redis-benchmark", "-s", os.path.join(directory, "tested.sock"), "-q",
                    "-t", tests, "-n", str(nr), "-r", str(nr // 2), "-d", "256",
                    "-c", "8", "-P", "8"], stdout=subprocess.DEVNULL, check=True)


def main(nr, words):
    directory = os.getcwd()
    server, client = start(words, directory, "tested", [])
    memory = client.one("INFO", "memory").decode()
    print("allocator", memory.split("mem_allocator:")[1][:8])
    fill(client, nr)
    verify(client, nr, lambda i: 0, "after filling")

    saved = client.one("DEBUG", "DIGEST"), client.one("DBSIZE")
    print("digest", saved[0].decode(), "keys", saved[1])
    client.one("BGSAVE")
    verify(client, nr, lambda i: 0, "while saving", change_to=1)
    save_and_wait(client)
    must_match("while keys changed", saved, load_elsewhere(directory, "second"))
    verify(client, nr, lambda i: 1 if i % 3 == 0 else 0, "after saving")
    print("digest", client.one("DEBUG", "DIGEST").decode())

    benchmark(directory, "set,lpush", nr // 2)
    saved = client.one("DEBUG", "DIGEST"), client.one("DBSIZE")
    client.one("BGSAVE")
    benchmark(directory, "get", nr)
    save_and_wait(client)
    must_match("while redis-benchmark read", saved, load_elsewhere(directory, "third"))

    client.send([("SHUTDOWN", "NOSAVE")])
    return server.wait()


sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
