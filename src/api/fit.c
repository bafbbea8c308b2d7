/* fit.c: see fit.h. The plan is made twice: as the checkpoint is, to see whether anything need be done, and with weights of one byte, to
 * see what all the rest takes. */
#include "api/fit.h"
#include "plan/plan.h"

static assay_status plan_with(assay_plan *p, const assay_config *c, const assay_device *device, double bytes, const assay_quantize_request *o,
                              assay_err *err) {
    assay_plan_opts opts = {.serving = {.context = o->context, .concurrency = o->concurrency},
                            .devices = &device,
                            .n_devices = 1,
                            .checkpoint_bytes = bytes,
                            .max_parallel = 1};
    if (o->kv && !assay_kv_parse(&opts.kv, o->kv))
        return assay_fail(err, ASSAY_EUSAGE, "unknown KV cache precision '%s'", o->kv);
    return assay_plan_make(p, c, NULL, NULL, &opts, err);
}

assay_status assay_fit_bytes(double *out, assay_str *account, const char *model, const assay_quantize_request *o, assay_err *err) {
    assay_config c = {0};
    assay_plan whole = {0}, rest = {0};
    const assay_device *device;
    char budget[24], kv[24], other[24], left[24];
    assay_status s;
    ASSAY_GO(assay_device_find(&device, o->fit, err));
    ASSAY_GO(assay_config_open(&c, model, err));
    ASSAY_GO(plan_with(&whole, &c, device, 0, o, err));
    ASSAY_GO(plan_with(&rest, &c, device, 1, o, err));
    const assay_fit *f = &rest.fits[0];
    if (whole.fits[0].fits) {
        s = assay_fail(err, ASSAY_EINPUT, "the model fits on %s as it is, with %s left: nothing needs to be mixed", device->id,
                       assay_show_bytes(left, sizeof left, whole.fits[0].left));
        goto out;
    }
    if (!f->fits) {
        s = assay_fail(err, ASSAY_EINPUT, "cache, activations and runtime alone do not fit on %s at a context of %lld and %lld at once", device->id,
                       (long long)rest.opts.serving.context, (long long)rest.opts.serving.concurrency);
        goto out;
    }
    *out = (f->left + f->weights) * 0.99;
    assay_str_printf(account, "fit            %s: %s to use, %s of cache (%s, context %lld, %lld at once), %s of activations and runtime: %s for the weights\n",
                     device->id, assay_show_bytes(budget, sizeof budget, f->budget), assay_show_bytes(kv, sizeof kv, f->kv),
                     assay_kv_name(rest.opts.kv), (long long)rest.opts.serving.context, (long long)rest.opts.serving.concurrency,
                     assay_show_bytes(other, sizeof other, f->activations + f->overhead), assay_show_bytes(left, sizeof left, *out));
    s = assay_str_status(account, err);
out:
    assay_plan_deinit(&whole);
    assay_plan_deinit(&rest);
    assay_config_deinit(&c);
    return s;
}
