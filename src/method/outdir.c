/* outdir.c: see outdir.h. The files of our own in a folder under work:
 *
 *   .assay-key            what the spool belongs to (the key). Another key: the spool is discarded. Locked while a process works here
 *   .partial-*            the format room's spool
 *   .assay-*.jsonl        journals of the command that writes
 *
 * Everything small is written first and the checkpoint is committed last: a folder with the manifest's key and a checkpoint in it is
 * complete. */
#include "method/outdir.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/gguf.h"
#include "base/mem.h"
#include "text/hf.h"

#define KEY      ".assay-key"
#define MANIFEST "assay.json"
#define SCHEMA   "assay.checkpoint/1"

/* --- which files are whose --- */

static bool ends_with(const char *name, const char *end) {
    size_t n = strlen(name), k = strlen(end);
    return n > k && !strcmp(name + n - k, end);
}

static bool is_spool(const char *name) {
    return !strncmp(name, ".partial-", 9) || (!strncmp(name, ".assay-", 7) && ends_with(name, ".jsonl")) || assay_is_leftover(name);
}
static bool is_key(const char *name) {
    return !strcmp(name, KEY);
}
static bool is_weights(const char *name) {
    return !strncmp(name, "model", 5) && (ends_with(name, ".safetensors") || ends_with(name, ".gguf"));
}
static bool is_output(const char *name) {
    return is_weights(name) || !strcmp(name, "model.safetensors.index.json") || !strcmp(name, MANIFEST) ||
           !strcmp(name, "layers.jsonl");
}

typedef bool (*name_test)(const char *name);

static assay_status remove_files(const char *dir, name_test match, assay_err *err) {
    DIR *d = opendir(dir);
    if (!d) return assay_fail_errno(err, errno, "cannot list '%s'", dir);
    assay_status s = ASSAY_OK;
    for (struct dirent *e; s == ASSAY_OK && (e = readdir(d));)
        if (match(e->d_name) && unlinkat(dirfd(d), e->d_name, 0) && errno != ENOENT)
            s = assay_fail_errno(err, errno, "cannot remove '%s/%s'", dir, e->d_name);
    closedir(d);
    return s;
}

/* Bytes of the weights in a folder; a checkpoint is there when its last file is, which is written last. */
static uint64_t weight_bytes(const char *dir) {
    uint64_t sum = 0;
    struct stat st;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (is_weights(e->d_name) && fstatat(dirfd(d), e->d_name, &st, 0) == 0) sum += (uint64_t)st.st_size;
    if (d) closedir(d);
    return sum;
}

static bool is_whole(const char *name) {
    return !strcmp(name, "model.safetensors") || !strcmp(name, "model.safetensors.index.json") || ends_with(name, ".gguf");
}

static bool has_checkpoint(const char *dir) {
    bool yes = false;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && !yes && (e = readdir(d));) yes = is_whole(e->d_name);
    if (d) closedir(d);
    return yes;
}

/* --- the folder --- */

assay_status assay_outdir_init(assay_outdir *d, const char *dir, const char *model_dir, assay_err *err) {
    struct stat a, b;
    *d = (assay_outdir){.dir = dir, .lock = -1};
    if (!dir) return assay_fail(err, ASSAY_EUSAGE, "no output directory given");
    ASSAY_TRY(assay_mkdirs(dir, err));
    if (stat(model_dir, &a) == 0 && stat(dir, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        return assay_fail(err, ASSAY_EUSAGE, "the output directory '%s' is the model's own: give another", dir);
    return ASSAY_OK;
}

void assay_outdir_deinit(assay_outdir *d) {
    if (d->lock >= 0) close(d->lock);
    d->lock = -1;
}

/* Was the spool begun under this very key? Then weights without a whole checkpoint are shards that a killed commit had placed. */
static bool is_begun(const assay_outdir *d) {
    char *path = assay_path_join(d->dir, KEY), *key = NULL;
    size_t n = 0;
    bool ours = path && assay_read_file(&key, &n, path, 4096, NULL) == ASSAY_OK && n == ASSAY_HASH_HEX - 1 && !memcmp(key, d->key, n);
    assay_free(path);
    assay_free(key);
    return ours;
}

assay_status assay_outdir_claim(bool *done, const assay_outdir *d, bool overwrite, assay_err *err) {
    json_t *manifest = assay_outdir_get_manifest(d->dir);
    const char *key = json_string_value(json_object_get(manifest, "key"));
    bool there = has_checkpoint(d->dir), ours = manifest != NULL;
    *done = there && key && !strcmp(key, d->key);
    json_decref(manifest);
    if (*done || (!there && is_begun(d))) return ASSAY_OK;
    if (there && !overwrite)
        return assay_fail(err, ASSAY_EUSAGE, "'%s' already holds %s: choose another directory, or ask to overwrite", d->dir,
                          ours ? "the result of another recipe or model" : "a checkpoint");
    return remove_files(d->dir, is_output, err);
}

assay_status assay_outdir_check_space(const assay_outdir *d, double output_bytes, assay_err *err) {
    struct statvfs v;
    if (statvfs(d->dir, &v)) return ASSAY_OK;
    double free_bytes = (double)v.f_bavail * (double)v.f_frsize, need = output_bytes * 2.01;
    char a[32], b[32];
    if (free_bytes >= need) return ASSAY_OK;
    return assay_fail(err, ASSAY_ENOSPC, "'%s' has %s free, spool and output need %s", d->dir,
                      assay_format_bytes(a, sizeof a, free_bytes), assay_format_bytes(b, sizeof b, need));
}

static assay_status lock_key(char there[ASSAY_HASH_HEX], assay_outdir *d, const char *path, assay_err *err) {
    d->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (d->lock < 0) return assay_fail_errno(err, errno, "cannot write '%s'", path);
    if (flock(d->lock, LOCK_EX | LOCK_NB))
        return assay_fail(err, ASSAY_EUSAGE, "another process is writing '%s'", d->dir);
    ssize_t n = pread(d->lock, there, ASSAY_HASH_HEX - 1, 0);
    if (n < 0) return assay_fail_errno(err, errno, "cannot read '%s'", path);
    there[n] = 0;
    return ASSAY_OK;
}

assay_status assay_outdir_begin(assay_outdir *d, assay_err *err) {
    char there[ASSAY_HASH_HEX], *path = assay_path_join(d->dir, KEY);
    size_t n = ASSAY_HASH_HEX - 1;
    assay_status s = path ? lock_key(there, d, path, err) : assay_nomem(err);
    if (s == ASSAY_OK && strcmp(there, d->key) != 0) {
        s = remove_files(d->dir, is_spool, err);
        if (s == ASSAY_OK && pwrite(d->lock, d->key, n, 0) != (ssize_t)n) s = assay_fail_errno(err, errno, "cannot write '%s'", path);
    }
    assay_free(path);
    return s;
}

assay_status assay_outdir_end(uint64_t *bytes, assay_outdir *d, assay_err *err) {
    if (bytes) *bytes = weight_bytes(d->dir);
    ASSAY_TRY(remove_files(d->dir, is_spool, err));
    return remove_files(d->dir, is_key, err);
}

/* --- what goes along --- */

/* Whole names, or beginnings where they end in '*'. */
static const char *const sidecars[] = {
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json",
    "added_tokens.json",      "vocab.json",     "merges.txt",            "chat_template.jinja", "chat_template.json",
    "LICENSE*",               "LICENCE*",       "NOTICE*",               "USE_POLICY*",         "COPYING*",
};

static bool travels(const char *name) {
    for (size_t i = 0; i < ASSAY_LEN(sidecars); i++) {
        size_t n = strlen(sidecars[i]);
        bool open = sidecars[i][n - 1] == '*';
        if (open ? !strncmp(name, sidecars[i], n - 1) : !strcmp(name, sidecars[i])) return true;
    }
    return false;
}

static assay_status copy_file(const char *out_dir, const char *model_dir, const char *name, assay_err *err) {
    char *from = assay_path_join(model_dir, name), *to = assay_path_join(out_dir, name), *data = NULL;
    size_t n;
    assay_status s = from && to ? ASSAY_OK : assay_nomem(err);
    if (s == ASSAY_OK && !assay_path_is_dir(from)) {
        s = assay_read_file(&data, &n, from, 0, err);
        if (s == ASSAY_OK) s = assay_write_file(to, data, n, err);
    }
    assay_free(data);
    assay_free(from);
    assay_free(to);
    return s;
}

assay_status assay_outdir_copy_sidecars(const assay_outdir *d, const char *model_dir, assay_err *err) {
    DIR *dir = opendir(model_dir);
    if (!dir) return assay_fail_errno(err, errno, "cannot list '%s'", model_dir);
    assay_status s = ASSAY_OK;
    for (struct dirent *e; s == ASSAY_OK && (e = readdir(dir));)
        if (travels(e->d_name)) s = copy_file(d->dir, model_dir, e->d_name, err);
    closedir(dir);
    return s;
}

static assay_status has_tokenizer(bool *out, const char *file, assay_err *err) {
    char *dir = assay_path_dir(file), *path = dir ? assay_path_join(dir, "tokenizer.json") : NULL;
    assay_status s = path ? ASSAY_OK : assay_nomem(err);
    if (s == ASSAY_OK) *out = assay_path_exists(path);
    assay_free(path);
    assay_free(dir);
    return s;
}

assay_status assay_outdir_unpack_tokenizer(char note[300], const assay_outdir *d, const char *model, assay_err *err) {
    char *file = NULL;
    bool there = true;
    assay_err why = {0};
    note[0] = 0;
    if (assay_gguf_find_file(&file, model, &why) != ASSAY_OK) return ASSAY_OK; /* no GGUF */
    assay_status s = has_tokenizer(&there, file, err);
    if (s == ASSAY_OK && !there) s = assay_gguf_write_hf(d->dir, file, &why);
    assay_free(file);
    if (s == ASSAY_OK) return ASSAY_OK;
    if (s != ASSAY_ENOTFOUND && s != ASSAY_EUNSUPPORTED) return assay_fail(err, s, "%s", why.message);
    snprintf(note, 300, "no tokenizer.json is written: %.250s", why.message);
    return ASSAY_OK;
}

/* --- the manifest --- */

assay_status assay_outdir_put_manifest(const assay_outdir *d, json_t *j, assay_err *err) {
    char date[32], *path = assay_path_join(d->dir, MANIFEST);
    json_t *whole = json_pack("{s:s, s:s, s:s, s:s, s:s}", "schema", SCHEMA, "program", "assay " ASSAY_VERSION, "build",
                              ASSAY_BUILD_FLAGS, "date", assay_date_iso(date, sizeof date), "key", d->key);
    assay_status s = path && j && whole && json_object_update(whole, j) == 0 ? assay_json_save(path, whole, 2, err) : assay_nomem(err);
    json_decref(whole);
    json_decref(j);
    assay_free(path);
    return s;
}

json_t *assay_outdir_get_manifest(const char *dir) {
    char *path = assay_path_join(dir, MANIFEST);
    json_t *j = NULL;
    assay_err ignored = {0};
    bool ok = path && assay_json_load(&j, path, &ignored) == ASSAY_OK;
    const char *schema = json_string_value(json_object_get(j, "schema")), *key = json_string_value(json_object_get(j, "key"));
    assay_free(path);
    if (ok && schema && !strcmp(schema, SCHEMA) && key && strlen(key) == ASSAY_HASH_HEX - 1) return j;
    json_decref(j);
    return NULL;
}
