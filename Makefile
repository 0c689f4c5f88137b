# SPDX-License-Identifier: Apache-2.0
#
# A thin cover over Meson: sees to the packages, then calls it. `make help` lists what
# there is. Build directories are build (what you use) and build-check (the tests').

BUILD = build
CHECK = build-check
PREFIX = /usr/local
DESTDIR =
MESON_OPTIONS =
SOAK_SECONDS = 1800
SEED =
SECONDS = 600
TARGET =
ROUNDS = 5
# What of `make bench`: scripts/bench.sh says what each may be. Nothing: all of it.
PARTS =
CASES =
PROGRAMS =
PERCENTS =
OUT =

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

# Meson notices by itself when a meson.build changes. It knows Debian's directory for
# libraries only where dpkg-dev is installed; the compiler always does.
$(BUILD)/build.ninja:
	@scripts/deps.sh build
	@triplet=$$(gcc -print-multiarch 2>/dev/null); \
	meson setup $(BUILD) --prefix=$(PREFIX) $${triplet:+--libdir=lib/$$triplet} \
		$(MESON_OPTIONS)

demo:
	@scripts/deps.sh demo
	@$(MAKE) --no-print-directory all
	@scripts/demo.sh $(BUILD)

check:
	@scripts/deps.sh check
	@scripts/check.sh $(CHECK)

# The same tests, longer: random operations and stress for SOAK_SECONDS each.
soak:
	@scripts/deps.sh check
	@scripts/check.sh --soak $(SOAK_SECONDS) $(CHECK)

# Whatever a program can do to its memory, while it migrates, for SECONDS.
torture:
	@scripts/deps.sh check
	@scripts/check.sh --torture $(SECONDS) $(CHECK)

# What stress-ng verifies, while all that may be migrated is, again and again.
verify:
	@scripts/deps.sh check
	@scripts/check.sh --verify $(CHECK)

# Real programs at half the memory they need, output compared.
programs:
	@scripts/deps.sh check judges
	@scripts/check.sh --programs $(CHECK)

# Programs with tests of their own, fetched, built, and run at half of their memory.
judges:
	@scripts/deps.sh check judges
	@scripts/check.sh --judges $(CHECK)

# The library on a simulated machine: thousands of seeds, or SEED alone.
sim:
	@scripts/deps.sh check
	@mkdir -p $(CHECK)
	@scripts/sim.sh $(if $(SEED),--seed $(SEED)) $(CHECK)/sim

# Inputs that libFuzzer makes up, for SECONDS: all targets of tests/fuzz, or TARGET.
fuzz:
	@scripts/deps.sh check
	@scripts/fuzz.sh --seconds $(SECONDS) $(if $(TARGET),--target $(TARGET)) \
		$(CHECK)/fuzz

# Plants bugs in the library, one at a time, and looks which test catches each.
mutants:
	@scripts/deps.sh check
	@mkdir -p $(CHECK)
	@tests/mutants/run.py --work $(CHECK)/mutants

# What of lib/ the tests execute; UNCOVERED=1 lists what they do not.
coverage:
	@scripts/deps.sh check
	@mkdir -p $(CHECK)
	@scripts/coverage.sh $(if $(UNCOVERED),--uncovered) $(CHECK)/coverage

bench:
	@scripts/deps.sh bench
	@$(MAKE) --no-print-directory all
	@ROUNDS=$(ROUNDS) PARTS="$(PARTS)" CASES="$(CASES)" PROGRAMS="$(PROGRAMS)" \
		PERCENTS="$(PERCENTS)" OUT="$(OUT)" scripts/bench.sh $(BUILD)

install: $(BUILD)/build.ninja
	@meson configure $(BUILD) --prefix=$(PREFIX)
	@ninja -C $(BUILD)
	@DESTDIR=$(DESTDIR) meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf $(BUILD) $(CHECK)

format:
	@scripts/deps.sh dev
	@scripts/format.sh

help:
	@echo 'make          build: $(BUILD)/uhmm'
	@echo 'make demo     run a program in less memory than it needs'
	@echo 'make check    all tests under all compilers and sanitizers'
	@echo 'make soak     random tests and stress for SOAK_SECONDS each'
	@echo 'make sim      thousands of runs on a simulated machine; SEED=N: that one'
	@echo 'make fuzz     what a fuzzer makes up; SECONDS=$(SECONDS) TARGET=NAME'
	@echo 'make mutants  plant bugs, and see each caught'
	@echo 'make coverage what of lib/ the tests execute; UNCOVERED=1: and what not'
	@echo 'make torture  changes of memory while it migrates; SECONDS=$(SECONDS)'
	@echo 'make verify   what stress-ng verifies, under constant migration'
	@echo 'make programs real programs at half their memory, output compared'
	@echo 'make judges   tests of zstd, lz4, sqlite3, redis and stress-ng, likewise'
	@echo 'make bench    measure, beside zram and swap; ROUNDS=$(ROUNDS) PARTS='
	@echo '              CASES= PROGRAMS= PERCENTS= OUT=: scripts/bench.sh says more'
	@echo 'make install  PREFIX=$(PREFIX) DESTDIR='
	@echo 'make format   clang-format the tree'
	@echo 'make clean    remove $(BUILD) and $(CHECK)'

.PHONY: all demo check soak torture verify programs judges sim fuzz mutants coverage \
	bench install clean format help
