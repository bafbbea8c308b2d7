/* kern/arm/att_neon.c: attention on NEON. */
#define VEC_ISA neon
#include "kern/body/vec_neon.h"
#include "kern/set.h"
#include "kern/body/att.h"

void VEC_NAME(assay_kern_set_att)(assay_kern *k) { set_att(k); }
