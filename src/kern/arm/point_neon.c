/* kern/arm/point_neon.c: elementwise operations on NEON. */
#define VEC_ISA neon
#include "kern/body/vec_neon.h"
#include "kern/set.h"
#include "kern/body/point.h"

void VEC_NAME(assay_kern_set_point)(assay_kern *k) { set_point(k); }
