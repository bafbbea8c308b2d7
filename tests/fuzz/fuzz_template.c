/* fuzz_template.c: a chat template from anybody, rendered with a conversation that has everything in it. */
#include <stdint.h>
#include <string.h>
#include "text/text.h"

static const char MESSAGES[] =
    "[{\"role\":\"system\",\"content\":\"Be \\u00e9 brief.\"},{\"role\":\"user\",\"content\":\" Hi\\n\"},"
    "{\"role\":\"assistant\",\"content\":\"\",\"reasoning_content\":\"hm\",\"tool_calls\":[{\"type\":"
    "\"function\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1.5,\"b\":[true,null]}}}]},"
    "{\"role\":\"tool\",\"content\":\"21\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
    "\"x\"}]}]";
static const char TOOLS[] = "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":"
                            "\"object\",\"properties\":{}}}}]";
static const char VARS[] = "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"x\":7,\"f\":-2.5,\"s\":\"Hello "
                           "World\",\"list\":[3,1,2],\"d\":{\"b\":1,\"a\":{\"c\":[1,2]}}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    assay_err err = {0};
    assay_template *t = NULL;
    assay_str out = {0};
    json_t *messages = NULL, *tools = NULL, *vars = NULL;
    if (assay_template_parse(&t, (const char *)data, size, &err) != ASSAY_OK) return 0;
    assay_json_parse(&messages, MESSAGES, strlen(MESSAGES), "messages", &err);
    assay_json_parse(&tools, TOOLS, strlen(TOOLS), "tools", &err);
    assay_json_parse(&vars, VARS, strlen(VARS), "vars", &err);
    if (messages && tools && vars) assay_template_render(&out, t, NULL, messages, tools, true, vars, &err);
    assay_str_free(&out);
    json_decref(messages);
    json_decref(tools);
    json_decref(vars);
    assay_template_close(t);
    return 0;
}
