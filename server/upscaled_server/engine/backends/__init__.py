"""What computes: ncnn on the CPU, torch on CUDA and as the CPU's fallback, behind `base.LoadedNetwork`."""
