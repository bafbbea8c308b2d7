# tests.mk: unit tests per room (tests/ROOM/test_*.c, cmocka), fuzz targets (tests/fuzz/fuzz_*.c), shell tests.
#
# A unit test links with its room and what that room may include; tests/all/ links with everything. Shared test helpers:
# tests/support/*.c (linked into every test).
TEST_SRC := $(wildcard tests/*/test_*.c)
TEST_BIN := $(TEST_SRC:%.c=$(BUILD)/%)
SUPPORT_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/support/*.c))
test_room = $(word 2,$(subst /, ,$(1)))
TEST_CPPFLAGS := -Itests

define test_rules
$(BUILD)/$(1:.c=.o): CPPFLAGS += $(TEST_CPPFLAGS)
$(BUILD)/$(1:.c=): $(BUILD)/$(1:.c=.o) $(SUPPORT_OBJ) $(if $(filter all,$(call test_room,$(1))),$(ROOM_LIBS),$(call room_libs,$(call test_room,$(1))))
	$$(call say,LD,$$@) $(CC) $(LDFLAGS) -o $$@ $$(filter %.o,$$^) -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group -lcmocka $(LIBS)
endef
$(foreach t,$(TEST_SRC),$(eval $(call test_rules,$(t))))
$(SUPPORT_OBJ): CPPFLAGS += $(TEST_CPPFLAGS)

# Each fuzz target is linked twice: with a driver that replays its corpus (every test run), and with libFuzzer (make fuzz).
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_REPLAY := $(FUZZ_SRC:%.c=$(BUILD)/%)
$(BUILD)/tests/fuzz/fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o $(BUILD)/tests/fuzz/replay.o $(ROOM_LIBS)
	$(call say,LD,$@) $(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(ROOM_LIBS) -Wl,--end-group $(LIBS)

.PHONY: unit fuzz-replay
unit: $(TEST_BIN)
fuzz-replay: $(FUZZ_REPLAY)
-include $(TEST_SRC:%.c=$(BUILD)/%.d) $(FUZZ_SRC:%.c=$(BUILD)/%.d)
.PRECIOUS: $(BUILD)/%.o
