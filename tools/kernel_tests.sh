# Sourced: the tests of csrc/ and fastconv/_kernels/. None of them starts a process, which would leave the emulator.
kernel_tests=(tests/test_{conv,pool,activation,dense,im2col,losses,reference}*.py)
