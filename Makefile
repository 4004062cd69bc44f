# Makefile - the one door. `make help` prints what it opens.

MAKEFLAGS += --no-builtin-rules
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += --jobs=2
endif
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

# What callers set -----------------------------------------------------------------------------------

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
DESTDIR ?=

ifeq ($(origin CC),default)
CC := gcc
endif
CFLAGS ?= -O2 -g

# For `make run`.
UNICODE_DATA ?= /usr/share/unicode/UnicodeData.txt
RUN_DATABASE ?= build/unicode.db
RUN_QUERY ?= "SELECT c3 AS category, count(*) AS characters FROM unicode_data GROUP BY c3 ORDER BY 2 DESC LIMIT 5"
RUN_ARGUMENTS ?= import $(UNICODE_DATA) --into $(RUN_DATABASE) --table unicode_data --writers 64

# How much the tests that hammer do, by tool; seconds for each program; which programs.
SCALE_NATIVE ?= 100
SCALE_CHECK ?= 5
SCALE_TSAN ?= 20
SCALE_ASAN ?= 20
SCALE_COVERAGE ?= 20
SCALE_MEMCHECK ?= 2
SCALE_HELGRIND ?= 1
SCALE_DRD ?= 1
SCALE_SWIFT_MEMCHECK ?= 2
SCALE_SOAK ?= 1000
SCALE_SOAK_SANITIZED ?= 200
LIMIT ?= 300
SWIFT_LIMIT ?= 900
SOAK_LIMIT ?= 3600
TESTS ?= test_*
ROWS ?= 100000
ROWS_MEMCHECK ?= 100000

# What is here ---------------------------------------------------------------------------------------

# The Swift toolchain brings its own clang and LLVM tools; others of the same name do not fit together.
ifndef SWIFT_ROOT
SWIFT_ROOT := $(shell s=$$(command -v swiftc) && dirname "$$(dirname "$$(readlink -f "$$s")")")
endif
ifndef CLANG
CLANG := $(firstword $(wildcard $(SWIFT_ROOT)/bin/clang) $(shell command -v clang))
endif
GCC ?= gcc

VERSION := $(shell awk '/define LANYARD_VERSION_[MP]/ { printf "%s%s", dot, $$3; dot = "." }' \
  CSupport/include/lanyard.h)
SONAME := liblanyard.so.$(firstword $(subst ., ,$(VERSION)))
SHARED := liblanyard.so.$(VERSION)

CORE := $(wildcard CSupport/src/*.c)
PAGES := $(wildcard CSupport/man/*.3)
TEST_PROGRAMS := $(basename $(notdir $(wildcard $(addprefix Tests/CSupportTests/,$(TESTS:=.c)))))
TEST_SUPPORT := $(wildcard Tests/CSupportTests/support/*.c)

TEST_WARNINGS := -Wall -Wextra -Wpedantic
WARNINGS := $(TEST_WARNINGS) -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion -Wvla
# Not := because pkg-config may have to be installed first.
THREADS = -pthread $(shell pkg-config --cflags --libs pthread-stubs)
DEPENDENCIES := -MMD -MP

INSTALL_DATA := install -m 644
INSTALL_LIBRARY := install -m 755

# V=1 shows the commands.
Q := $(if $(V),,@)
SAY := $(if $(V),:,echo ' ')

# The driver's last line stays the last line.
SUBMAKE = $(MAKE) --no-print-directory

help: ## print each target with its purpose
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install what is missing for everything below; silent if nothing is
	@.ci/deps

# Order-only prerequisites of what needs the tools: they never make a file out of date.
deps-lib deps-c: deps-%:
	@.ci/deps $*

# The library ----------------------------------------------------------------------------------------

lib: build/liblanyard.a build/$(SHARED) ## build the static and the shared library in build/

build/lib/%.o: CSupport/src/%.c Makefile | deps-lib
	@mkdir -p $(@D)
	@$(SAY) $@
	$(Q)$(CC) -std=gnu11 $(CFLAGS) $(CPPFLAGS) $(THREADS) -fPIC -fvisibility=hidden $(WARNINGS) -Werror \
	  $(DEPENDENCIES) -ICSupport/include -c -o $@ $<

LIB_OBJECTS := $(CORE:CSupport/src/%.c=build/lib/%.o)

build/liblanyard.a: $(LIB_OBJECTS)
	@rm -f $@
	@$(SAY) $@
	$(Q)$(AR) rcs $@ $^

build/$(SHARED): $(LIB_OBJECTS) CSupport/lanyard.map
	@$(SAY) $@
	$(Q)$(CC) -shared $(CFLAGS) $(LDFLAGS) -Wl,-soname,$(SONAME) -Wl,--version-script=CSupport/lanyard.map \
	  -Wl,-z,defs -Wl,-z,relro,-z,now -Wl,-z,nodelete -o $@ $(LIB_OBJECTS) $(THREADS)
	@ln -sf $(SHARED) build/$(SONAME)
	@ln -sf $(SONAME) build/liblanyard.so

# ALIAS:PAGE for each name of a page that is not the page's own; such a name gets a page that leads there.
ALIASES = $(shell for page in $(PAGES); do own=$$(basename $$page .3); \
  awk -v own=$$own '/^\.Sh NAME/ { on = 1 } /^\.Nd/ { exit } \
    on && /^\.Nm/ && $$2 != own { print $$2 ":" own }' $$page; done)

INCLUDE_TO = $(DESTDIR)$(abspath $(PREFIX))/include
LIB_TO = $(DESTDIR)$(abspath $(LIBDIR))
MAN_TO = $(DESTDIR)$(abspath $(PREFIX))/share/man/man3

install: lib ## install libraries, header, lanyard.pc and man pages below $(DESTDIR)$(PREFIX)
	install -d $(INCLUDE_TO) $(LIB_TO)/pkgconfig $(MAN_TO)
	$(INSTALL_DATA) CSupport/include/lanyard.h $(INCLUDE_TO)
	$(INSTALL_DATA) build/liblanyard.a $(LIB_TO)
	$(INSTALL_LIBRARY) build/$(SHARED) $(LIB_TO)
	ln -sf $(SHARED) $(LIB_TO)/$(SONAME)
	ln -sf $(SONAME) $(LIB_TO)/liblanyard.so
	sed -e 's|@PREFIX@|$(abspath $(PREFIX))|' -e 's|@LIBDIR@|$(abspath $(LIBDIR))|' \
	  -e 's|@VERSION@|$(VERSION)|' CSupport/lanyard.pc.in >$(LIB_TO)/pkgconfig/lanyard.pc
	chmod 644 $(LIB_TO)/pkgconfig/lanyard.pc
	$(INSTALL_DATA) $(PAGES) $(MAN_TO)
	@for pair in $(ALIASES); do \
	  echo ".so man3/$${pair#*:}.3" >$(MAN_TO)/$${pair%:*}.3 && chmod 644 $(MAN_TO)/$${pair%:*}.3 || exit; \
	done

uninstall: ## remove exactly what install put there
	rm -f $(INCLUDE_TO)/lanyard.h $(LIB_TO)/liblanyard.a $(LIB_TO)/pkgconfig/lanyard.pc
	rm -f $(addprefix $(LIB_TO)/,$(SHARED) $(SONAME) liblanyard.so)
	@rm -f $(addprefix $(MAN_TO)/,$(notdir $(PAGES)) $(foreach pair,$(ALIASES),$(firstword $(subst :, ,$(pair))).3))

# Test builds ----------------------------------------------------------------------------------------

# $(call variant,NAME,COMPILER,FLAGS,LINK FLAGS): how build/NAME/test_* come about, from the core compiled
# with LANYARD_TESTING and the flags, the tests' own support and one test_*.c each.
# The names of the programs are then in $(NAME_programs).
define variant
$(1)_programs := $(TEST_PROGRAMS:%=build/$(1)/%)
$(1)_shared := $(CORE:CSupport/src/%.c=build/$(1)/core/%.o) \
  $(TEST_SUPPORT:Tests/CSupportTests/support/%.c=build/$(1)/support/%.o)
$(1)_compile = $(Q)mkdir -p $$(@D) && $(2) -std=gnu11 $$(THREADS) $(TEST_WARNINGS) $(DEPENDENCIES) \
  -DLANYARD_TESTING=1 -ICSupport/include -ICSupport/src -ITests/CSupportTests/support $(3) -c -o $$@ $$<

build/$(1)/core/%.o: CSupport/src/%.c Makefile | deps-c
	$$($(1)_compile) $(WARNINGS)
build/$(1)/support/%.o: Tests/CSupportTests/support/%.c Makefile | deps-c
	$$($(1)_compile)
build/$(1)/%.o: Tests/CSupportTests/%.c Makefile | deps-c
	$$($(1)_compile)
$$($(1)_programs): build/$(1)/%: build/$(1)/%.o $$($(1)_shared)
	@$(SAY) $$@
	$(Q)$(2) $(3) $(4) -o $$@ $$^ $$(THREADS) -ldl
.SECONDARY: $$($(1)_shared) $$($(1)_programs:=.o)
endef

# clang's own linker, and libdispatch for ThreadSanitizer, which that runtime refers to in the toolchain.
ifneq ($(wildcard $(SWIFT_ROOT)/bin/ld.lld),)
LLD := -fuse-ld=lld
endif
ifneq ($(wildcard $(SWIFT_ROOT)/lib/swift/linux/libdispatch.so),)
DISPATCH := -L$(SWIFT_ROOT)/lib/swift/linux -ldispatch -lBlocksRuntime -Wl,-rpath,$(SWIFT_ROOT)/lib/swift/linux
endif

# -Werror only where no instrumentation misleads the compiler's own analysis.
NATIVE := -O2 -g -Werror -DLANYARD_DEBUG=1
TSAN := -O1 -g -fsanitize=thread -DLANYARD_DEBUG=1
ASAN := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -DLANYARD_DEBUG=1
VALGRIND := -O1 -g -DLANYARD_DEBUG=1
# Counters that live in the mapped file itself (%c below): a child that ends by _exit or abort counts too.
COVERAGE := -O0 -g -fprofile-instr-generate -fcoverage-mapping -fcoverage-mcdc -fprofile-update=atomic \
  -mllvm -runtime-counter-relocation=true -Wno-unused-command-line-argument -DLANYARD_COVERAGE=1

$(eval $(call variant,test-gcc,$(GCC),$(NATIVE)))
$(eval $(call variant,tsan-gcc,$(GCC),$(TSAN)))
$(eval $(call variant,asan-gcc,$(GCC),$(ASAN)))
$(eval $(call variant,valgrind,$(GCC),$(VALGRIND)))
ifneq ($(CLANG),)
$(eval $(call variant,test-clang,$(CLANG),$(NATIVE)))
$(eval $(call variant,tsan-clang,$(CLANG),$(TSAN),$(LLD) $(DISPATCH)))
$(eval $(call variant,asan-clang,$(CLANG),$(ASAN),$(LLD)))
$(eval $(call variant,coverage,$(CLANG),$(COVERAGE),$(LLD)))
NO_CLANG = true
else
NO_CLANG = echo '$@: no clang here: with gcc alone'
endif

-include $(wildcard build/*/*.d build/*/*/*.d)

# Programs of someone else's, built against an installed library and nothing of this tree.
build/consumer/quiet: build/consumer/consumer
build/consumer/consumer: Tests/Consumers/c/consumer.c Tests/Consumers/c/quiet.c Tests/Consumers/c/Makefile \
  build/liblanyard.a build/$(SHARED) CSupport/lanyard.pc.in | deps-c
	+@$(SUBMAKE) -s install PREFIX=$(CURDIR)/build/prefix LIBDIR=$(CURDIR)/build/prefix/lib DESTDIR=
	+@PKG_CONFIG_PATH=$(CURDIR)/build/prefix/lib/pkgconfig \
	  $(SUBMAKE) -s -C Tests/Consumers/c CC=$(CC) BUILD=$(CURDIR)/build/consumer \
	  $(CURDIR)/build/consumer/consumer $(CURDIR)/build/consumer/quiet

# The same in Swift, in a package of its own. DWARF 4: valgrind cannot read what the toolchain writes by default.
SWIFT_CONSUMER := .build-consumer/debug/consumer
SWIFT_VALGRIND := -Xswiftc -dwarf-version=4 -Xcc -gdwarf-4
.PHONY: $(SWIFT_CONSUMER)
$(SWIFT_CONSUMER): | deps
	swift build --package-path Tests/Consumers/swift --scratch-path .build-consumer $(SWIFT_VALGRIND)

# Running the tests ----------------------------------------------------------------------------------

# $(call run_tests,TOOL,SCALE,COMMANDS[,WRAPPER])
run_tests = LANYARD_TEST_TOOL=$(1) LANYARD_TEST_SCALE=$(2) LANYARD_SHARED_LIBRARY=$(CURDIR)/build/$(SHARED) \
  LIMIT=$(LIMIT) WRAP='$(strip $(4))' Tests/CSupportTests/run $(3)

test: deps ## everything: the C tests, the Swift tests, a short slice under each tool
	+@MAKE='$(MAKE)' .ci/stages test-c test-swift memcheck-c memcheck-swift helgrind drd \
	  tsan-c tsan-swift asan-c asan-swift docs leaks

check: deps lib $(test-gcc_programs) ## the quick loop: the C tests by gcc at a small scale, then the Swift tests
	@$(call run_tests,native,$(SCALE_CHECK),$(test-gcc_programs) Tests/contract \
	  'Tests/CSupportTests/check layers build/lib')
	swift build --build-tests
	@$(call run_tests,native,$(SCALE_CHECK),.ci/swift-test)

CHECKS = Tests/contract 'Tests/CSupportTests/check header $(GCC) $(CLANG) g++ $(CLANG:%=%++)' \
  'Tests/CSupportTests/check layers build/lib' \
  'Tests/CSupportTests/check library build' 'Tests/CSupportTests/check install build/staging' \
  'Tests/CSupportTests/check manual'

test-c: lib $(test-gcc_programs) $(test-clang_programs) build/consumer/consumer ## the C tests, natively, by gcc and by clang; header, library, manual, contract, consumer
	@$(NO_CLANG)
	@CC=$(CC) $(call run_tests,native,$(SCALE_NATIVE),$(test-gcc_programs) $(test-clang_programs) \
	  $(CHECKS) 'build/consumer/consumer $(ROWS) build/consumer/native.db')

test-swift: LIMIT := $(SWIFT_LIMIT)
test-swift: deps $(SWIFT_CONSUMER) ## the Swift tests; what the compiler must refuse; a consumer
	@command -v swift >/dev/null
	swift build --build-tests
	@$(call run_tests,native,$(SCALE_NATIVE),.ci/swift-test 'Tests/Refusals/run $(CURDIR)/.build/debug/Modules' \
	  'Tests/Snippets/run $(CURDIR)/.build/debug/Modules' \
	  $(SWIFT_CONSUMER))

VALGRIND_RUN := valgrind -q --error-exitcode=9 --num-callers=30 --fair-sched=try
MEMCHECK_RUN := $(VALGRIND_RUN) --leak-check=full --show-leak-kinds=definite,indirect,possible \
  --errors-for-leak-kinds=definite,indirect,possible

memcheck: memcheck-c memcheck-swift ## the C and the Swift tests under valgrind's memcheck, leaks included
tsan: tsan-c tsan-swift ## the C and the Swift tests under ThreadSanitizer
asan: asan-c asan-swift ## the same under Address-, Leak- and, in C, UndefinedBehaviorSanitizer

memcheck-c: lib $(valgrind_programs) build/consumer/consumer ## the C tests under memcheck
	@$(call run_tests,memcheck,$(SCALE_MEMCHECK),$(valgrind_programs) \
	  'build/consumer/consumer $(ROWS_MEMCHECK) build/consumer/memcheck.db',$(MEMCHECK_RUN))

# What is told to memcheck is said in the file. Suites run side by side, each with its workers: hence more
# threads. Without glibc's cache of stacks, because a thread would find in it the table of another one that is
# gone, whose creator a report would then name.
MEMCHECK_SWIFT := env GLIBC_TUNABLES=glibc.pthread.stack_cache_size=0 \
  $(MEMCHECK_RUN) --max-threads=2000 --suppressions=$(CURDIR)/Tests/Valgrind/swift.supp

build/sigsuspend.so: Tests/Valgrind/sigsuspend.c | deps-c
	@mkdir -p $(@D)
	@$(SAY) $@
	$(Q)$(GCC) $(TEST_WARNINGS) -Werror -O1 -shared -fPIC -o $@ $<

# The tests' package is an executable. It needs the preloaded help; the consumer has no thread but its own.
memcheck-swift: LIMIT := $(SWIFT_LIMIT)
memcheck-swift: deps build/sigsuspend.so $(SWIFT_CONSUMER) ## the Swift tests and the consumer under memcheck
	swift build --build-tests --scratch-path .build-valgrind $(SWIFT_VALGRIND)
	@$(call run_tests,memcheck,$(SCALE_SWIFT_MEMCHECK),'.ci/swift-test env LD_PRELOAD=$(CURDIR)/build/sigsuspend.so \
	  $(MEMCHECK_SWIFT) .build-valgrind/debug/lanyardPackageTests.xctest --testing-library swift-testing' \
	  '$(MEMCHECK_SWIFT) $(SWIFT_CONSUMER)')

helgrind: lib $(valgrind_programs) build/consumer/quiet ## the C tests and a consumer under valgrind's helgrind
	@$(call run_tests,helgrind,$(SCALE_HELGRIND),$(valgrind_programs) build/consumer/quiet,$(VALGRIND_RUN) --tool=helgrind)

drd: lib $(valgrind_programs) build/consumer/quiet ## the C tests and a consumer under valgrind's drd
	@$(call run_tests,drd,$(SCALE_DRD),$(valgrind_programs) build/consumer/quiet,$(VALGRIND_RUN) --tool=drd)

# ThreadSanitizer's map of the address space and a randomised one of many bits exclude each other.
FIXED_ADDRESSES := $(shell setarch "$$(uname -m)" -R true 2>/dev/null && echo setarch "$$(uname -m)" -R)

# Of the options, atexit_sleep_ms: the default of a whole second is paid by each of many children.
tsan-c: lib $(tsan-gcc_programs) $(tsan-clang_programs) ## the C tests under ThreadSanitizer, by gcc and by clang
	@$(NO_CLANG)
	@TSAN_OPTIONS="die_after_fork=0 atexit_sleep_ms=20 second_deadlock_stack=1 $$TSAN_OPTIONS" \
	  $(call run_tests,tsan,$(SCALE_TSAN),$(tsan-gcc_programs) $(tsan-clang_programs),$(FIXED_ADDRESSES))

# $(call swift_sanitizer,NAME,SANITIZER,SCALE[,WRAPPER]): builds and runs the Swift tests, the core's C included.
# The linker of the system warns of each of the sanitizer's own symbols; lld does not.
define swift_sanitizer
	swift build --build-tests --scratch-path .build-$(1) --sanitize=$(2) -Xswiftc -use-ld=lld
	@$(call run_tests,$(1),$(3),'.ci/swift-test $(strip $(4)) swift test --skip-build --scratch-path .build-$(1) \
	  --sanitize=$(2) -Xswiftc -use-ld=lld --disable-xctest')
endef

tsan-swift: LIMIT := $(SWIFT_LIMIT)
tsan-swift: deps ## the Swift tests under ThreadSanitizer
	$(call swift_sanitizer,tsan,thread,$(SCALE_TSAN),$(FIXED_ADDRESSES))

asan-swift: LIMIT := $(SWIFT_LIMIT)
asan-swift: deps ## the Swift tests under AddressSanitizer and LeakSanitizer
	$(call swift_sanitizer,asan,address,$(SCALE_ASAN))

asan-c: lib $(asan-gcc_programs) $(asan-clang_programs) ## the C tests under Address-, Leak- and UndefinedBehaviorSanitizer, by both
	@$(NO_CLANG)
	@ASAN_OPTIONS="detect_stack_use_after_return=1 allocator_may_return_null=1 $$ASAN_OPTIONS" \
	  UBSAN_OPTIONS="print_stacktrace=1 $$UBSAN_OPTIONS" \
	  $(call run_tests,asan,$(SCALE_ASAN),$(asan-gcc_programs) $(asan-clang_programs))

coverage: lib $(coverage_programs) ## lines, branches and MC/DC of the C core; pages in build/coverage/html
	@test -x '$(SWIFT_ROOT)/bin/llvm-cov' || { echo 'coverage: needs the llvm-cov of a Swift toolchain'; exit 1; }
	@rm -rf build/coverage/raw build/coverage/html
	@status=0; LLVM_PROFILE_FILE='$(CURDIR)/build/coverage/raw/%m-%p%c.profraw' \
	  $(call run_tests,coverage,$(SCALE_COVERAGE),$(coverage_programs)) >build/coverage/tests.log || status=$$?; \
	sed '$$d' build/coverage/tests.log; \
	$(SWIFT_ROOT)/bin/llvm-profdata merge -sparse -o build/coverage/lanyard.profdata build/coverage/raw/*.profraw \
	  && $(LLVM_COV_SHOW) -format=html -output-dir=build/coverage/html $(LLVM_COV_OF) \
	  && $(SWIFT_ROOT)/bin/llvm-cov report -show-mcdc-summary $(LLVM_COV_OF) || status=1; \
	tail -n 1 build/coverage/tests.log; exit $$status

LLVM_COV_SHOW := $(SWIFT_ROOT)/bin/llvm-cov show -show-branches=count -show-mcdc
LLVM_COV_OF := -instr-profile=build/coverage/lanyard.profdata -ignore-filename-regex='(^|/)(Tests|include)/' \
  $(firstword $(coverage_programs)) $(addprefix -object ,$(wordlist 2,999,$(coverage_programs)))

soak: deps ## the tests for long: natively, under ThreadSanitizer, under AddressSanitizer
	+@MAKE='$(MAKE)' SCALE_NATIVE=$(SCALE_SOAK) SCALE_TSAN=$(SCALE_SOAK_SANITIZED) \
	  SCALE_ASAN=$(SCALE_SOAK_SANITIZED) LIMIT=$(SOAK_LIMIT) SWIFT_LIMIT=$(SOAK_LIMIT) .ci/stages test-c test-swift tsan-c tsan-swift \
	  asan-c asan-swift

man-check: | deps-c ## check the man pages: well formed, and one for each public name
	@CC=$(CC) Tests/CSupportTests/run 'Tests/CSupportTests/check manual'

# Measuring -------------------------------------------------------------------------------------------

ROUNDS ?= 5
build/bench/core: Tests/Benchmarks/core.c build/liblanyard.a Makefile | deps-lib
	@mkdir -p $(@D)
	@$(SAY) $@
	$(Q)$(CC) -std=gnu11 $(CFLAGS) $(THREADS) $(TEST_WARNINGS) -Werror $(DEPENDENCIES) -ICSupport/include -o $@ \
	  $< build/liblanyard.a $(THREADS)

bench-core: build/bench/core ## the C core beside a mutex and condition variables, in one run
	@build/bench/core $(ROUNDS)

bench-database: deps ## the database beside GRDB and plain C, in one run
	swift build -c release --package-path Tests/Benchmarks/Database --scratch-path .build-bench
	@mkdir -p build/bench && cd build/bench && ../../.build-bench/release/bench-database --rounds $(ROUNDS)

leaks: deps ## who else leaves threads behind when it is let go of: counted, beside Lanyard
	swift build --package-path Tests/Peers --scratch-path .build-peers
	@.build-peers/debug/leaks

# Documentation ---------------------------------------------------------------------------------------

# With the option about overloads a name that several of them share leads to a page for all; without, to an error.
docs: deps ## the Swift library's documentation, in build/docs; a warning is an error
	@mkdir -p build
	LANYARD_DOCS=1 swift package --scratch-path .build-docs --allow-writing-to-directory build/docs \
	  generate-documentation --target Lanyard --output-path build/docs --transform-for-static-hosting \
	  --enable-experimental-overloaded-symbol-presentation --warnings-as-errors

# The command ----------------------------------------------------------------------------------------

run: deps ## import the Unicode table into an SQLite file, by 64 writers over one worker
	@mkdir -p build
	@rm -f $(RUN_DATABASE) $(RUN_DATABASE)-wal $(RUN_DATABASE)-shm
	swift build -c release --product lanyard
	.build/release/lanyard $(RUN_ARGUMENTS)
	.build/release/lanyard sql $(RUN_DATABASE) $(RUN_QUERY)

# The rest -------------------------------------------------------------------------------------------

format: ## bring the Swift sources into the format of `swift format`
	swift format format --in-place --recursive --parallel Package.swift Sources Tests

clean: ## remove what was built
	rm -rf build .build .build-*

.PHONY: help deps deps-lib deps-c lib install uninstall check test test-c test-swift memcheck memcheck-c memcheck-swift \
  helgrind drd tsan tsan-c tsan-swift asan asan-c asan-swift \
  coverage soak man-check bench-core bench-database leaks docs run format clean
