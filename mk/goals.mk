# goals.mk: what a person types.
SECONDS ?= 60
FUZZ_BUILD := build/fuzz

.PHONY: all help deps demo test check check-asan bench interop interop-gguf interop-tokenizers interop-methods interop-models interop-formats fuzz clean
all: $(PROGRAM)

help:
	@echo 'make demo        install what is missing, build, run the demo study to its report'
	@echo 'make test        install what is missing, build, run every test'
	@echo 'make             build the program only'
	@echo 'make bench       measure kernels, decode, prefill, quantizing against this machine'"'"'s limits'
	@echo 'make check-asan  the tests under AddressSanitizer and UndefinedBehaviorSanitizer'
	@echo 'make fuzz        every fuzz target for SECONDS=60 each (T=name for one)'
	@echo 'make interop     compare with the originals in Python (tools/originals.sh installs them)'
	@echo 'make interop-tokenizers  token ids and chat templates against tokenizers, sentencepiece, llama.cpp and transformers'
	@echo 'make interop-gguf  GGUF files of every architecture against llama.cpp, both ways (ten minutes)'
	@echo 'make interop-methods  quantize with the originals and with ours: KL, perplexity, time, memory (about 40 minutes the first time)'
	@echo 'make interop-formats  converted files read by GPTQModel, AutoAWQ, hqq, transformers and llama.cpp as by us'
	@echo 'make interop-models   every architecture against transformers on tiny checkpoints (two minutes after the installation)'
	@echo 'make install     PREFIX=/usr/local DESTDIR='

# Installs what the build, the tests and the demo need (Debian packages), only what is missing.
deps:
	$(Q)sh tools/deps.sh build
deps-test:
	$(Q)sh tools/deps.sh build test

demo: deps
	$(Q)$(MAKE) -s --no-print-directory all
	$(Q)sh tools/demo.sh $(PROGRAM)

test: deps-test
	$(Q)$(MAKE) --no-print-directory -j$$(nproc) check

# check assumes the packages are there; `test` is check with its own set-up.
check: $(PROGRAM) $(TEST_BIN) $(FUZZ_REPLAY)
	$(Q)BUILD=$(BUILD) ASSAY=$(PROGRAM) sh tests/run.sh

check-asan:
	$(Q)$(MAKE) --no-print-directory BUILD=build/asan SANITIZE=address,undefined OPT='-O1 -g' check

# A synthetic checkpoint of a real model's shape, for measurements (see the file's head).
$(BUILD)/mkcheckpoint: $(BUILD)/tools/mkcheckpoint.o $(BUILD)/lib/num.a $(BUILD)/lib/base.a
	$(call say,LD,$@) $(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

bench: all
	$(Q)sh tools/bench.sh $(PROGRAM)

# Programs that the comparisons in Python drive.
$(BUILD)/logits: $(BUILD)/tools/logits.o $(ROOM_LIBS)
	$(call say,LD,$@) $(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(ROOM_LIBS) -Wl,--end-group $(LIBS)
$(BUILD)/kl: $(BUILD)/tools/kl.o $(call room_libs,method) $(call room_libs,runtime)
	$(call say,LD,$@) $(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS)
$(BUILD)/encode_file: $(BUILD)/tests/text/encode_file.o $(BUILD)/lib/text.a $(BUILD)/lib/base.a
	$(call say,LD,$@) $(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/render_file: $(BUILD)/tests/text/render_file.o $(BUILD)/lib/text.a $(BUILD)/lib/base.a
	$(call say,LD,$@) $(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

interop: all $(BUILD)/logits $(BUILD)/encode_file $(BUILD)/render_file
	$(Q)BUILD=$(BUILD) sh tools/interop.sh $(PROGRAM)

interop-tokenizers: $(BUILD)/encode_file $(BUILD)/render_file
	$(Q)BUILD=$(BUILD) sh tools/interop_tokenizers.sh

interop-formats: all $(BUILD)/logits
	$(Q)BUILD=$(BUILD) sh tools/interop_formats.sh $(PROGRAM)

interop-gguf: all $(BUILD)/logits
	$(Q)BUILD=$(BUILD) sh tools/interop_gguf.sh $(PROGRAM)

interop-methods: all $(BUILD)/kl
	$(Q)BUILD=$(BUILD) sh tools/interop_methods.sh $(PROGRAM)

interop-models: $(BUILD)/logits
	$(Q)BUILD=$(BUILD) sh tools/interop_models.sh $(PROGRAM)

fuzz:
	$(Q)sh tools/fuzz.sh '$(T)' $(SECONDS)

clean:
	rm -rf build
