# assay: GNU make, out of tree. `make demo` and `make test` do everything; `make help` lists the rest.
#
# BUILD=dir        where objects go (default build/release)
# SANITIZE=address,undefined   instrumented build (use another BUILD)
# CC=clang         another compiler;  V=1 shows commands;  WERROR=1 makes warnings errors
#
# Objects are archived per room (tools/rooms.def): a room's tests link with the rooms it may include and no others.

BUILD    ?= build/release
CC       ?= cc
AR       ?= ar
PREFIX   ?= /usr/local
VERSION  := 0.1.0
SANITIZE ?=
CUDA     ?= auto

.DEFAULT_GOAL := all
include mk/config.mk
include mk/rooms.mk
include mk/tests.mk
include mk/install.mk
include mk/goals.mk
