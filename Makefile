# SPDX-License-Identifier: GPL-2.0-only
# The front door for people; `make` alone says what there is.

PYTHON ?= /usr/bin/python3
export PYTHONDONTWRITEBYTECODE := 1

# What to look at, as for the kernel's own coccicheck
MODE ?= report
M ?= $(if $(KDIR),,driver-sample)
V ?= 0

# Debian packages: to run the rules; to build and boot what came out; to make
# patches, and to find out what they can be trusted with; to test
RUN_PACKAGES := coccinelle libpython3-dev python3 python3-click \
	python3-diskcache python3-filelock python3-pathspec python3-rich \
	diffutils
RUNTIME_PACKAGES := linux-source-6.12 bc binutils bison busybox-static flex \
	gcc libc6-dev libelf-dev lz4 make patch perl python3-jinja2 \
	python3-pygments qemu-system-x86 xz-utils
PATCHES_PACKAGES := git bc bison flex gcc libc6-dev libelf-dev libssl-dev \
	make perl python3-jinja2 sparse
TEST_PACKAGES := b4 chromium dpkg-dev git git-email libmailtools-perl \
	openssh-client openssh-server parallel python3-html5lib \
	python3-hypothesis python3-jsonschema python3-pytest \
	python3-pytest-xdist python3-yaml reuse rsync

DIST_PACKAGES := python3-click-man
DEB_PACKAGES := debhelper dh-python dpkg-dev fakeroot lintian

# What `make runtime` and `make runtime-real` run
EDU_CASES := $(patsubst %/Kbuild,%,$(wildcard tests/fixtures/edu/*/Kbuild))
REAL_CASES := $(patsubst %/Kbuild,%,$(wildcard runtime/real/*/Kbuild))

flags = $(if $(COCCI),--rule '$(COCCI)') $(if $(KDIR),--kdir '$(KDIR)') \
	$(if $(J),--jobs '$(J)') $(if $(filter-out 0,$(V)),--verbose)

.PHONY: help deps run-deps runtime-deps patches-deps dist-deps deb-deps \
	coccicheck convert lint patches runtime runtime-real bench test \
	test-versions install uninstall deb need-m need-kdir need-o

help:
	@echo 'make coccicheck   show what could be converted (default: driver-sample/)'
	@echo 'make convert      rewrite the driver M=, in place'
	@echo 'make lint         like coccicheck, but fail on findings'
	@echo 'make patches      a series to review and send: M= of KDIR=, into O='
	@echo 'make runtime      boot drivers before and after their conversion in QEMU'
	@echo 'make runtime-real  the same with drivers of Linux 5.10'
	@echo 'make bench        compare conversions with what people did in Linux'
	@echo 'make test         run the tests'
	@echo 'make test-versions  the fixtures with the spatch of Debian 13'
	@echo 'make install      put the rules into the kernel tree KDIR=, or all'
	@echo '                  of it below PREFIX= (in DESTDIR=)'
	@echo 'make uninstall    and remove it from there'
	@echo 'make deb          build/cocci-dma_VERSION_all.deb'
	@echo 'make deps         install the Debian packages that all this needs;'
	@echo '                  the targets do so for what they need themselves'
	@echo
	@echo 'M=PATH      driver: a folder or a file, here or in KDIR'
	@echo 'MODE=       report (default), patch, context, org; coccicheck only'
	@echo 'COCCI=RULE  only this rule (its name or its .cocci file)'
	@echo 'DRIVERS=    folders for make runtime(-real);  HTML=FILE  results as a page'
	@echo 'JUNIT=FILE  the same as XML'
	@echo 'FORMAT= BASELINE=FILE DIFF=REV  for make lint: see docs/lint.md'
	@echo 'KDIR=DIR    kernel tree;  J=N  so many at once;  V=1  show commands'
	@echo 'O=DIR       new folder for make patches: see docs/patches.md'

deps: packages = $(RUN_PACKAGES) $(RUNTIME_PACKAGES) $(PATCHES_PACKAGES) \
	$(TEST_PACKAGES) $(DIST_PACKAGES)
patches-deps: packages = $(RUN_PACKAGES) $(PATCHES_PACKAGES)
dist-deps: packages = $(RUN_PACKAGES) $(DIST_PACKAGES)
deb-deps: packages = $(RUN_PACKAGES) $(DIST_PACKAGES) $(DEB_PACKAGES)
runtime-deps: packages = $(RUN_PACKAGES) $(RUNTIME_PACKAGES)
run-deps: packages = $(RUN_PACKAGES)

# dpkg-query also knows packages that were removed: hence the look at the
# status.  Quick, so that other targets can depend on it.
deps runtime-deps patches-deps run-deps dist-deps deb-deps:
	@command -v dpkg-query >/dev/null || case ' $(MAKECMDGOALS) ' in \
		*deps' '*) echo 'this is no Debian: install what is called' \
			'there $(packages)' >&2; exit 2;; \
		*) exit 0;; \
	esac; \
	missing=$$(dpkg-query -W -f '$${db:Status-Status} $${Package}\n' \
		$(packages) 2>/dev/null | \
		awk '$$1 == "installed" { have[$$2] = 1 } END { \
			n = split("$(packages)", all, " "); \
			for (i = 1; i <= n; i++) \
				if (!(all[i] in have)) print all[i] }'); \
	[ -n "$$missing" ] || exit 0; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	echo 'installing' $$missing >&2; \
	[ -n "$$(ls /var/lib/apt/lists/*Packages* 2>/dev/null)" ] || \
		$$sudo apt-get update -qq || exit 2; \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
		--no-install-recommends $$missing >/dev/null || { \
		echo 'apt-get failed: run apt-get update and try again' >&2; \
		exit 2; }

need-m:
	@[ -n '$(M)' ] || { echo 'KDIR is set, M is not: name the driver, for' \
		'example M=drivers/net/ethernet/natsemi' >&2; exit 2; }

need-kdir:
	@[ -n '$(KDIR)' ] || { echo 'KDIR is not set: name the kernel tree,' \
		'KDIR=/usr/src/linux' >&2; exit 2; }

need-o:
	@[ -n '$(O)' ] || { echo 'O is not set: name a new folder for the mails,' \
		'O=series' >&2; exit 2; }

coccicheck: need-m run-deps
	@$(PYTHON) cocci-dma coccicheck --mode '$(MODE)' $(flags) -- '$(M)'

convert: need-m run-deps
	@$(PYTHON) cocci-dma convert --in-place $(flags) -- '$(M)'

lint: need-m run-deps
	@$(PYTHON) cocci-dma check $(flags) $(if $(FORMAT),--format '$(FORMAT)') \
		$(if $(BASELINE),--baseline '$(BASELINE)') \
		$(if $(DIFF),--diff '$(DIFF)') -- '$(M)'

patches: need-kdir need-m need-o patches-deps
	@$(PYTHON) cocci-dma patches $(flags) --output '$(O)' -- '$(M)'

runtime: cases = driver-sample $(EDU_CASES)
runtime-real: cases = $(REAL_CASES)
runtime runtime-real: runtime-deps
	@$(PYTHON) cocci-dma bench-driver $(if $(JUNIT),--junit '$(JUNIT)') \
		$(if $(HTML),--html '$(HTML)') \
		$(or $(DRIVERS),$(cases))

bench: run-deps
	@$(PYTHON) bench/accuracy.py $(if $(J),--jobs '$(J)')
	@$(PYTHON) bench/gfp.py --sample 208 $(if $(J),--jobs '$(J)')

# With the spatch of newer Debians: as root, and 700 MB the first time
test-versions: deps
	@$(PYTHON) tests/versions.py $(SUITES)

test: deps
	@$(PYTHON) -m pytest -q -n auto --dist loadgroup -p no:cacheprovider tests

ifdef KDIR
install uninstall:
	@$(PYTHON) -m cocci_dma.install $@ '$(KDIR)'
else ifneq ($(PREFIX)$(DESTDIR),)
install uninstall: dist-deps
	@$(PYTHON) packaging/dist.py $@ '$(or $(PREFIX),/usr/local)' '$(DESTDIR)'
else
install uninstall:
	@echo 'where? name a kernel tree, KDIR=/usr/src/linux, for the rules, or' \
		'PREFIX=/usr/local for all of it' >&2; exit 2
endif

# dpkg-buildpackage writes beside the folder that it builds in
deb: deb-deps
	@rm -rf build
	@$(PYTHON) packaging/dist.py debian build/cocci-dma
	@cd build/cocci-dma && dpkg-buildpackage -us -uc -b >../build.log 2>&1 || \
		{ tail -n 20 ../build.log >&2; exit 2; }
	@rm -rf build/cocci-dma
	@lintian --fail-on error,warning,info --allow-root \
		$$(ls build/cocci-dma_*_all.deb)
	@ls build/cocci-dma_*_all.deb
