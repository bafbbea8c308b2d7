/* format/writer_plan.h: a checkpoint whose tensors are all known before the first is written goes straight to its final files, so every
 * byte is written once.
 *
 *   assay_ckpt_writer_plan_begin(w)    from here on puts only note names, types and shapes: nothing is written, data is not looked at
 *   ... every put that will come, in any order, with data NULL or unread ...
 *   assay_ckpt_writer_plan_end(w)      lays them out; puts write again
 *
 * In each session of a resumed run, after opening. Where a plan is not possible (a spool that was begun without one, a commit that
 * was begun) both do nothing and the spool is used. */
#ifndef ASSAY_FORMAT_WRITER_PLAN_H
#define ASSAY_FORMAT_WRITER_PLAN_H

#include "format/format.h"

/* *planning: puts are wanted. */
assay_status assay_ckpt_writer_plan_begin(bool *planning, assay_ckpt_writer *w, assay_err *err);
assay_status assay_ckpt_writer_plan_end(assay_ckpt_writer *w, assay_err *err);
/* Puts only note: conventions leave packing out. */
bool assay_ckpt_writer_is_planning(const assay_ckpt_writer *w);

/* --- for writer.c and commit.c --- */
struct assay_plan;
struct assay_spooled;
assay_status assay_plan_note(assay_ckpt_writer *w, const struct assay_spooled *t, assay_err *err);
/* EINTERNAL when a tensor that is put is not the one that was noted. */
assay_status assay_plan_check(const assay_ckpt_writer *w, const struct assay_spooled *t, assay_err *err);
/* n bytes at `offset` of a tensor to its place. */
assay_status assay_plan_write(assay_ckpt_writer *w, const char *name, const void *data, size_t n, size_t offset, assay_err *err);
assay_status assay_plan_sync(const assay_ckpt_writer *w, assay_err *err);
/* Writes the headers; the files are whole then. EINTERNAL when a planned tensor was not put. */
assay_status assay_plan_finish(assay_ckpt_writer *w, assay_err *err);
void assay_plan_free(struct assay_plan *p); /* NULL is fine */

#endif
