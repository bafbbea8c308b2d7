# config.mk: compiler flags and libraries.
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' '$(1)' '$(2)' &&)

TRIPLET := $(shell $(CC) -dumpmachine)
ARCH    := $(firstword $(subst -, ,$(TRIPLET)))

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef -Wwrite-strings -Wpointer-arith
ifdef WERROR
WARN += -Werror
endif
OPT      ?= -O2 -g
CPPFLAGS += -Iinclude -Isrc -I$(BUILD)/gen -D_GNU_SOURCE -DASSAY_VERSION='"$(VERSION)"'
# No fast-math, no contraction, no -march=native: results must not depend on where it was built.
CFLAGS   += -std=c17 $(OPT) $(WARN) -ffp-contract=off -fno-math-errno -fvisibility=hidden -fno-common -pthread
LDFLAGS  += -pthread
ifneq ($(SANITIZE),)
CFLAGS   += -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=undefined
LDFLAGS  += -fsanitize=$(SANITIZE)
CPPFLAGS += -DASSAY_SANITIZED=1
endif

PKGS := jansson yaml-0.1 libpcre2-8 libutf8proc sqlite3 libcrypto
PKG_CONFIG ?= pkg-config
LIBS := $(shell $(PKG_CONFIG) --libs $(PKGS) 2>/dev/null) -lm
CPPFLAGS += $(shell $(PKG_CONFIG) --cflags $(PKGS) 2>/dev/null)
BUILD_FLAGS := $(CC) $(OPT) $(if $(SANITIZE),sanitize=$(SANITIZE))
CPPFLAGS += -DASSAY_BUILD_FLAGS='"$(BUILD_FLAGS)"'

# One kernel file, one instruction set: the flags follow from the file's name (src/kern/x86/NAME_ISA.c).
ISA_avx2       := -mavx2 -mfma -mf16c -mbmi2
ISA_avx512     := $(ISA_avx2) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512
ISA_avx512vnni := $(ISA_avx512) -mavx512vnni -mavx512vbmi
ISA_avx512bf16 := $(ISA_avx512vnni) -mavx512bf16
ISA_neon       :=
isa_flags = $(ISA_$(lastword $(subst _, ,$(basename $(notdir $(1))))))
