"""lcg.py: the inputs of the golden vectors: cubes of uniforms, which have the heavy tails of weights. golden.h repeats it."""
import numpy as np

f32 = np.float32


def lcg(seed, n, amplitude):
    x, out = seed, np.empty(n, f32)
    for i in range(n):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        v = f32(f32((x >> 8) - 8388608) * f32(2.0 ** -23))
        out[i] = f32(f32(v * v) * v) * f32(amplitude)
    return out
