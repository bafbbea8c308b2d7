# rooms.mk: sources, objects, one archive per room, the library and the program.
ROOMS := $(shell sh tools/rooms.sh list)
# A room and all that its rooms may include, transitively.
closure = $(shell sh tools/rooms.sh closure $(1))

KERN_ARCH := $(if $(filter x86_64,$(ARCH)),x86,$(if $(filter aarch64,$(ARCH)),arm))
room_sources = $(wildcard src/$(1)/*.c) $(if $(filter kern,$(1)),$(wildcard src/kern/ref/*.c) $(if $(KERN_ARCH),$(wildcard src/kern/$(KERN_ARCH)/*.c)))

define room_rules
SRC_$(1) := $(call room_sources,$(1))
OBJ_$(1) := $$(patsubst %.c,$(BUILD)/%.o,$$(SRC_$(1)))
$(BUILD)/lib/$(1).a: $$(OBJ_$(1))
	$$(call say,AR,$$@) mkdir -p $$(@D) && rm -f $$@ && $(AR) rcs $$@ $$(OBJ_$(1))
endef
$(foreach r,$(ROOMS),$(eval $(call room_rules,$(r))))
ROOM_LIBS := $(foreach r,$(ROOMS),$(if $(SRC_$(r)),$(BUILD)/lib/$(r).a))
room_libs = $(foreach r,$(call closure,$(1)),$(if $(SRC_$(r)),$(BUILD)/lib/$(r).a))

CLI_SRC := $(wildcard cli/*.c)
CLI_OBJ := $(CLI_SRC:%.c=$(BUILD)/%.o)
PROGRAM := $(BUILD)/assay

# No parser is in a kernel: fuzz builds leave them unsanitized, because clang takes minutes a file otherwise.
KERN_CFLAGS = $(if $(findstring fuzzer,$(SANITIZE)),$(filter-out -fsanitize=% -fno-sanitize%,$(CFLAGS)),$(CFLAGS))
$(BUILD)/src/kern/x86/%.o: src/kern/x86/%.c
	$(call say,CC,$<) mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(KERN_CFLAGS) $(call isa_flags,$<) -MMD -MP -c -o $@ $<
$(BUILD)/%.o: %.c
	$(call say,CC,$<) mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# Assets of the HTML report (web/*) and Vega, turned into C arrays at build time.
GEN := $(BUILD)/gen/assets.h
WEB_ASSETS := $(wildcard web/*)
$(GEN): $(WEB_ASSETS) tools/embed.sh
	$(call say,GEN,$@) mkdir -p $(@D) && sh tools/embed.sh $@ $(WEB_ASSETS)
$(OBJ_report): $(GEN)

$(PROGRAM): $(CLI_OBJ) $(ROOM_LIBS)
	$(call say,LD,$@) $(CC) $(LDFLAGS) -o $@ $(CLI_OBJ) -Wl,--start-group $(ROOM_LIBS) -Wl,--end-group $(LIBS)

$(BUILD)/libassay.a: $(ROOM_LIBS)
	$(call say,AR,$@) rm -f $@ && $(AR) rcs $@ $(foreach r,$(ROOMS),$(OBJ_$(r)))

-include $(foreach r,$(ROOMS),$(OBJ_$(r):.o=.d)) $(CLI_OBJ:.o=.d)
