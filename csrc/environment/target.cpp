// Only gives the linker a library of this name to depend on; at run time TensorRT stands under it.
