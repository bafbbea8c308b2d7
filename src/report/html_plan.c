/* html_plan.c: deployment: where the bits go, memory against context on each device with the line of what it
 * may use, speed and cost; and the manifest. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "report/html.h"

#define W           340.0
#define H           216.0
#define LEFT        40.0
#define RIGHT       12.0
#define TOP         22.0
#define BOTTOM      34.0
#define MOST_CHARTS 12
#define STEPS       48
#define GIB         1073741824.0

typedef struct curve {
    double x[STEPS + 1], weights[STEPS + 1], fixed[STEPS + 1], all[STEPS + 1]; /* GiB, cumulative upwards */
} curve;

/* Contexts on a logarithmic axis from 256 to what the model can hold. */
static void compute_curve(curve *c, const assay_plan *p, const assay_fit *f, double lo, double hi) {
    const assay_serving *v = &p->opts.serving;
    for (int i = 0; i <= STEPS; i++) {
        c->x[i] = lo * pow(hi / lo, (double)i / STEPS);
        int64_t context = (int64_t)(c->x[i] + 0.5);
        double all = assay_plan_memory_at(p, f, context, v->concurrency);
        /* no sequence at all still keeps the activations of one step: what is not weights, KV aside */
        double none = assay_plan_memory_at(p, f, context, 0);
        c->weights[i] = f->weights / GIB;
        c->fixed[i] = ASSAY_MIN(none, all) / GIB;
        c->all[i] = all / GIB;
    }
}

static void put_area(assay_str *out, const char *class, const double *x, const double *lower,
                     const double *upper, const assay_axis *ax, const assay_axis *ay) {
    assay_str_printf(out, "<path class=\"%s\" d=\"", class);
    for (int i = 0; i <= STEPS; i++)
        assay_str_printf(out, "%c%.1f %.1f", i ? 'L' : 'M', assay_axis_at(ax, x[i]),
                         assay_axis_at(ay, upper[i]));
    for (int i = STEPS; i >= 0; i--)
        assay_str_printf(out, "L%.1f %.1f", assay_axis_at(ax, x[i]), assay_axis_at(ay, lower ? lower[i] : 0));
    assay_str_put(out, "z\"/>");
}

static void put_memory_axes(assay_str *out, const assay_axis *x, const assay_axis *y) {
    double ticks[12];
    size_t n = assay_axis_ticks(ticks, ASSAY_LEN(ticks), y->lo, y->hi, 4);
    for (size_t i = 0; i < n; i++) {
        double at = assay_axis_at(y, ticks[i]);
        assay_str_printf(out,
                         "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/><text "
                         "class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%g</text>",
                         LEFT, W - RIGHT, at, at, LEFT - 6, at + 4, ticks[i]);
    }
    for (double c = 256; c <= x->hi * 1.001; c *= x->hi / x->lo > 300 ? 8 : x->hi / x->lo > 20 ? 4 : 2) {
        if (c < x->lo) continue;
        char label[16];
        if (c >= 1024)
            snprintf(label, sizeof label, "%gK", c / 1024);
        else
            snprintf(label, sizeof label, "%g", c);
        assay_str_printf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>",
                         assay_axis_at(x, c), H - BOTTOM + 17, label);
    }
    assay_str_printf(out,
                     "<text class=\"axis-name\" x=\"2\" y=\"11\">GiB</text><text class=\"axis-name\" "
                     "x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">context, tokens</text>",
                     W - RIGHT, H - 3);
}

static void put_memory_chart(assay_str *out, const assay_plan *p, const assay_fit *f) {
    curve c;
    char a[32], b[32];
    double most = (double)(p->max_position_embeddings > 0 ? p->max_position_embeddings : 131072);
    double lo = ASSAY_MIN(256.0, most / 4), budget = f->budget / GIB;
    compute_curve(&c, p, f, lo, most);
    double top = ASSAY_MAX(budget * 1.15, c.fixed[0] * 1.1);
    if (c.all[STEPS] > top) top = ASSAY_MIN(c.all[STEPS], top * 1.4);
    assay_axis x = {.lo = lo, .hi = most, .a = LEFT, .b = W - RIGHT, .log = true},
               y = {.lo = 0, .hi = top, .a = H - BOTTOM, .b = TOP};
    assay_str_put(out, "<figure><figcaption>");
    assay_html_text(out, f->device->name);
    if (f->n_parallel > 1) assay_str_printf(out, " × %d", f->n_parallel);
    assay_str_printf(out, "<span class=\"sub\">%s, ", f->runtime->id);
    if (f->max_context > 0)
        assay_str_printf(out, "fits to a context of %s, or %s sequences of the asked one",
                         assay_show_count(a, sizeof a, (double)f->max_context),
                         assay_show_count(b, sizeof b, (double)f->max_concurrency));
    else
        assay_str_put(out, "does not fit");
    assay_str_printf(
        out,
        "</span></figcaption><svg viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"memory against context\">",
        W, H);
    put_area(out, "m-kv", c.x, c.fixed, c.all, &x, &y);
    put_area(out, "m-act", c.x, c.weights, c.fixed, &x, &y);
    put_area(out, "m-weights", c.x, NULL, c.weights, &x, &y);
    put_memory_axes(out, &x, &y);
    double line = assay_axis_at(&y, budget);
    assay_str_printf(out,
                     "<line class=\"fit\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/><text "
                     "class=\"fit-name\" x=\"%.1f\" y=\"%.1f\">may use %s</text>",
                     LEFT, W - RIGHT, line, line, LEFT + 4, line - 5,
                     assay_show_size(a, sizeof a, f->budget));
    double asked = assay_axis_at(&x, (double)p->opts.serving.context);
    assay_str_printf(out,
                     "<line class=\"asked\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"><title>asked: %s "
                     "tokens</title></line>",
                     asked, asked, TOP, H - BOTTOM,
                     assay_show_count(a, sizeof a, (double)p->opts.serving.context));
    if (f->max_context > 0 && f->max_context < (int64_t)most)
        assay_str_printf(out, "<circle class=\"cross\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\"/>",
                         assay_axis_at(&x, (double)f->max_context), line);
    assay_str_put(out, "</svg></figure>\n");
}

static assay_status put_variant(assay_str *out, const assay_report *r, size_t i, assay_err *err) {
    const assay_plan *p = r->variants[i].plan;
    assay_table t;
    size_t charts = 0;
    assay_html_panel_open(out, r, i);
    if (!p) {
        assay_str_put(out, "<p class=\"empty\">No deployment was planned for this one.</p>\n");
        assay_html_panel_close(out);
        return ASSAY_OK;
    }
    assay_str_put(out, "<div class=\"charts\">\n");
    for (size_t k = 0; k < p->n_fits && charts < MOST_CHARTS; k++) {
        if (isnan(p->fits[k].budget)) continue;
        put_memory_chart(out, p, &p->fits[k]);
        charts++;
    }
    assay_str_put(out, "</div>\n<h4>Fit, speed and cost</h4>");
    assay_tables_fits(&t, p);
    ASSAY_TRY(assay_html_table(out, &t, "Devices", err));
    assay_str_put(out, "<h4>Memory per device</h4>");
    assay_tables_memory(&t, p);
    ASSAY_TRY(assay_html_table(out, &t, "Memory per device", err));
    assay_str_put(out, "<h4>Where the bits go</h4>");
    assay_tables_sizes(&t, &p->sizes);
    ASSAY_TRY(assay_html_table(out, &t, "Sizes", err));
    assay_html_panel_close(out);
    return ASSAY_OK;
}

assay_status assay_html_plan(assay_str *out, const assay_report *r, assay_err *err) {
    const assay_plan *first = NULL;
    assay_table t;
    if (!assay_html_has_plans(r)) return ASSAY_OK;
    for (size_t i = 0; i < r->n_variants && !first; i++)
        first = r->variants[i].plan;
    assay_str_put(out, "<section id=\"deployment\" aria-labelledby=\"deployment-h\"><h2 "
                       "id=\"deployment-h\">Deployment</h2>\n<p>");
    assay_show_assumptions(out, first);
    assay_str_put(out, " A device whose memory or compute rate nobody publishes stays unknown "
                       "here.</p>\n<div class=\"legend\" aria-hidden=\"true\"><i class=\"m-weights\"></i>"
                       "<span>weights</span><i class=\"m-act\"></i><span>activations and runtime</span><i "
                       "class=\"m-kv\"></i><span>KV cache</span>"
                       "<i class=\"fit\"></i><span>what the runtime may use</span><i "
                       "class=\"asked\"></i><span>asked context</span></div>\n");
    for (size_t i = 0; i < r->n_variants; i++)
        ASSAY_TRY(put_variant(out, r, i, err));
    assay_str_put(out, "<details><summary>Sources of the device figures</summary>");
    assay_tables_sources(&t, first);
    ASSAY_TRY(assay_html_table(out, &t, "Sources", err));
    assay_str_put(out, "</details></section>\n");
    return ASSAY_OK;
}

/* --- manifest --- */

static assay_status put_value(assay_str *out, const json_t *v, assay_err *err) {
    if (json_is_string(v)) {
        assay_html_textn(out, json_string_value(v), json_string_length(v));
        return ASSAY_OK;
    }
    assay_str b = {0};
    assay_status s = assay_json_dump(&b, v, 0, false, err);
    if (s == ASSAY_OK) assay_html_textn(out, assay_str_c(&b), b.len);
    assay_str_free(&b);
    return s;
}

/* Nested objects become "outer.inner" rows; json.h bounds the depth of what was parsed, this the depth of
 * what is shown. */
static assay_status put_rows(assay_str *out, const json_t *o, const char *prefix, int depth, assay_err *err) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)o, key, v) {
        assay_str name = {0};
        assay_str_printf(&name, "%s%s%s", prefix, *prefix ? "." : "", key);
        assay_status s = ASSAY_OK;
        if (json_is_object(v) && json_object_size(v) && depth < 6)
            s = put_rows(out, v, assay_str_c(&name), depth + 1, err);
        else {
            assay_str_put(out, "<tr><th scope=\"row\">");
            assay_html_text(out, assay_str_c(&name));
            assay_str_put(out, "</th><td>");
            s = put_value(out, v, err);
            assay_str_put(out, "</td></tr>\n");
        }
        assay_str_free(&name);
        if (s != ASSAY_OK) return s;
    }
    return ASSAY_OK;
}

static assay_status put_manifest(assay_str *out, const char *name, const json_t *o, bool open,
                                 assay_err *err) {
    assay_str_printf(out, "<details%s><summary>", open ? " open" : "");
    assay_html_text(out, name);
    assay_str_put(out, "</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" "
                       "aria-label=\"Manifest\"><table class=\"manifest\"><tbody>\n");
    ASSAY_TRY(put_rows(out, o, "", 0, err));
    assay_str_put(out, "</tbody></table></div></details>\n");
    return ASSAY_OK;
}

assay_status assay_html_manifest(assay_str *out, const assay_report *r, assay_err *err) {
    const assay_policy *p = assay_show_policy(r);
    assay_str_put(
        out, "<section id=\"manifest\" aria-labelledby=\"manifest-h\"><h2 id=\"manifest-h\">Manifest</h2>\n"
             "<p>How every number here was obtained; the same inputs give the same report.</p>\n");
    if (json_is_object(r->manifest)) ASSAY_TRY(put_manifest(out, "Study", r->manifest, true, err));
    if (p) {
        json_t *j = assay_policy_to_json(p);
        if (!j) return assay_nomem(err);
        assay_status s = put_manifest(out, "Policy", j, false, err);
        json_decref(j);
        if (s != ASSAY_OK) return s;
    }
    for (size_t i = 0; i < r->n_variants; i++)
        if (json_is_object(r->variants[i].manifest))
            ASSAY_TRY(put_manifest(out, r->variants[i].name, r->variants[i].manifest, false, err));
    assay_str_put(out, "</section>\n");
    return ASSAY_OK;
}
