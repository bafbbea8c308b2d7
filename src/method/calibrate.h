/* method/calibrate.h: a model's calibration sequences, from what a study or a command line asks for. */
#ifndef ASSAY_METHOD_CALIBRATE_H
#define ASSAY_METHOD_CALIBRATE_H

#include "method/calib.h"
#include "method/method.h"

typedef struct assay_calibrator {
    assay_calib calib;
    json_t *manifest;
    assay_calibration sequences; /* what assay_quantize_opts.calibration takes; borrows from calib */
} assay_calibrator;

/* Opens MODEL_DIR's configuration, tokenizer (not needed for files of ids) and chat template, and reads the data. Errors as
 * assay_calib_load's and the openers'. */
assay_status assay_calibrator_open(assay_calibrator *out, const char *model_dir, const assay_calib_spec *spec, assay_err *err);
void assay_calibrator_close(assay_calibrator *c); /* all-zero is fine */

#endif
