"""Convolution: forward, backward and transposed, in one, two and three dimensions.

Sources: the tiles follow the register blocking of Goto and van de Geijn, "Anatomy of High-Performance Matrix
Multiplication" (ACM TOMS 2008), applied to padded strips of the input without an im2col matrix, in the manner of
Georganas et al., "Anatomy of High-Performance Deep Learning Convolutions on SIMD Architectures" (SC 2018). The
arithmetic is described in Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (2016).
"""
from . import convolve, packed, plans
from .packed import PackedWeight
from .planning import ConvPlan

__all__ = [
    "ConvPlan", "PackedWeight", "conv1d", "conv1d_backward", "conv1d_backward_input", "conv1d_backward_weight",
    "conv2d", "conv2d_backward", "conv2d_backward_input", "conv2d_backward_weight", "conv3d", "conv3d_backward",
    "conv3d_backward_input", "conv3d_backward_weight", "conv_algorithms", "conv_transpose1d",
    "conv_transpose1d_backward", "conv_transpose2d", "conv_transpose2d_backward", "conv_transpose3d",
    "conv_transpose3d_backward", "explain_conv", "pack_weight",
]


# ---------------------------------------------------------------- 2-D

def conv2d(x, w, b=None, stride=1, padding=0, dilation=1, groups=1, *, padding_mode="zeros", activation=None,
           algorithm="auto", out=None, num_threads=None):
    """Convolution (cross-correlation) of an image, with bias and activation in the same pass.

    Parameters
    ----------
    x : array, (N, C, H, W), or without the batch axis
        float32 or float64, channels-first or channels-last; other strides cost one copy.
    w : array or PackedWeight, (K, C // groups, R, S)
    b : array, (K,), optional
    stride, dilation : int or one per axis
    padding : int, one per axis, (before, after) pairs, "valid", "same" or "same_lower"
        Negative numbers crop.
    groups : int
        Channels fall into this many groups that don't mix; groups = C is a depthwise convolution.
    padding_mode : {"zeros", "reflect", "replicate", "edge", "circular", "wrap", "symmetric"}
        As in :func:`numpy.pad`.
    activation : {None, "relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "hardswish"}
    algorithm : {"auto", "direct", "folded", "exchanged", "winograd2", "winograd4", "winograd1d", "fft"}
        "auto" lets a cost model choose; any other is an error where it can't serve the convolution.
    out : array of the result's shape and dtype, any strides, optional
        Where the result goes.
    num_threads : int, optional
        The most threads to use; by default :func:`get_num_threads`.

    Returns
    -------
    y : array, (N, K, P, Q)
        In the memory order of x; each output extent is
        ``floor((in + before + after - dilation * (kernel - 1) - 1) / stride) + 1``.

    Raises
    ------
    TypeError
        An operand is not float32 or float64, or the dtypes differ.
    ValueError
        A shape, extent or option doesn't fit; the message names it.
    """
    return convolve.forward("conv2d", 2, x, w, b, stride, padding, dilation, groups, padding_mode, activation,
                            algorithm, out, num_threads)


def conv2d_backward(dy, x, w, stride=1, padding=0, dilation=1, groups=1, *, padding_mode="zeros",
                    need=(True, True, True), algorithm="auto", out=(None, None, None), accumulate=False,
                    num_threads=None):
    """Gradients of :func:`conv2d` (without activation) with respect to x, w and b.

    Parameters
    ----------
    dy : array, (N, K, P, Q)
        Gradient with respect to the result.
    x : array, (N, C, H, W)
    w : array, (K, C // groups, R, S)
    need : three bools
        Which of dx, dw and db to compute.
    out : three arrays or None
        Where dx, dw and db go; None in a place asks for a new array.
    accumulate : bool
        Add dw and db to the arrays in `out` instead of overwriting them.
    Others as in :func:`conv2d`.

    Returns
    -------
    dx, dw, db : arrays of the shapes of x, w and (K,), or None where not needed
        dx in the memory order of dy.

    Raises
    ------
    TypeError, ValueError
        As in :func:`conv2d`.
    """
    return convolve.backward("conv2d_backward", 2, dy, x, w, stride, padding, dilation, groups, padding_mode, need,
                             algorithm, out, accumulate, num_threads)


def conv2d_backward_input(dy, w, input_shape, stride=1, padding=0, dilation=1, groups=1, *, padding_mode="zeros",
                          algorithm="auto", out=None, num_threads=None):
    """Gradient of :func:`conv2d` with respect to its input, of shape `input_shape`, in the memory order of dy.

    Computed by stride phases: no zeros are inserted. Parameters and errors as in :func:`conv2d_backward`.
    """
    return convolve.backward_input("conv2d_backward_input", 2, dy, w, input_shape, stride, padding, dilation, groups,
                                   padding_mode, algorithm, out, num_threads)


def conv2d_backward_weight(dy, x, weight_shape, stride=1, padding=0, dilation=1, groups=1, *, padding_mode="zeros",
                           algorithm="auto", out=None, accumulate=False, num_threads=None):
    """Gradient of :func:`conv2d` with respect to its weights, of shape `weight_shape`, C-contiguous.

    Partial sums over fixed parts of batch and space are joined in order, so the bits don't depend on the number of
    threads. Parameters and errors as in :func:`conv2d_backward`.
    """
    return convolve.backward_weight("conv2d_backward_weight", 2, dy, x, weight_shape, stride, padding, dilation, groups,
                                    padding_mode, algorithm, out, accumulate, num_threads)


def conv_transpose2d(x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *, activation=None,
                     algorithm="auto", out=None, num_threads=None):
    """Transposed convolution: the adjoint of :func:`conv2d` as a layer of its own, for upsampling and generation.

    Parameters
    ----------
    x : array, (N, C, H, W), or without the batch axis
    w : array, (C, K // groups, R, S)
    b : array, (K,), optional
    stride, dilation : int or one per axis
    padding : int, one per axis, or (before, after) pairs, not negative
    output_padding : int or one per axis, less than max(stride, dilation)
        Extends the result at the end of each axis.
    activation, algorithm, out, num_threads
        As in :func:`conv2d`.

    Returns
    -------
    y : array, (N, K, P, Q)
        Each extent is ``(in - 1) * stride - before - after + dilation * (kernel - 1) + output_padding + 1``.

    Raises
    ------
    TypeError, ValueError
        As in :func:`conv2d`.
    """
    return convolve.transposed("conv_transpose2d", 2, x, w, b, stride, padding, output_padding, groups, dilation,
                               activation, algorithm, out, num_threads)


def conv_transpose2d_backward(dy, x, w, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *,
                              need=(True, True, True), algorithm="auto", out=(None, None, None), accumulate=False,
                              num_threads=None):
    """Gradients (dx, dw, db) of :func:`conv_transpose2d`; parameters and results as in :func:`conv2d_backward`."""
    return convolve.transposed_backward("conv_transpose2d_backward", 2, dy, x, w, stride, padding, output_padding,
                                        groups, dilation, need, algorithm, out, accumulate, num_threads)


# ---------------------------------------------------------------- 1-D

# What the docstrings above call otherwise in one and in three dimensions.
WORDS = {
    1: {"2d": "1d", "an image": "a signal", "H, W": "L", "R, S": "R", "P, Q": "Q"},
    3: {"2d": "3d", "an image": "a volume or video", "H, W": "D, H, W", "R, S": "T, R, S", "P, Q": "O, P, Q"},
}


def _documented_as(function, rank):
    """Decorator: the docstring of a 2-D function, in the words of `rank` spatial axes."""
    def document(other):
        text = function.__doc__ or ""  # python -OO has none
        for word, here in WORDS[rank].items():
            text = text.replace(word, here)
        other.__doc__ = text
        return other

    return document


@_documented_as(conv2d, 1)
def conv1d(x, w, b=None, stride=1, padding=0, dilation=1, groups=1, *, padding_mode="zeros", activation=None,
           algorithm="auto", out=None, num_threads=None):
    return convolve.forward("conv1d", 1, x, w, b, stride, padding, dilation, groups, padding_mode, activation,
                            algorithm, out, num_threads)


@_documented_as(conv2d_backward, 1)
def conv1d_backward(dy, x, w, stride=1, padding=0, dilation=1, groups=1, *, padding_mode="zeros",
                    need=(True, True, True), algorithm="auto", out=(None, None, None), accumulate=False,
                    num_threads=None):
    return convolve.backward("conv1d_backward", 1, dy, x, w, stride, padding, dilation, groups, padding_mode, need,
                             algorithm, out, accumulate, num_threads)


@_documented_as(conv2d_backward_input, 1)
def conv1d_backward_input(dy, w, input_shape, stride=1, padding=0, dilation=1, groups=1, *, padding_mode="zeros",
                          algorithm="auto", out=None, num_threads=None):
    return convolve.backward_input("conv1d_backward_input", 1, dy, w, input_shape, stride, padding, dilation, groups,
                                   padding_mode, algorithm, out, num_threads)


@_documented_as(conv2d_backward_weight, 1)
def conv1d_backward_weight(dy, x, weight_shape, stride=1, padding=0, dilation=1, groups=1, *, padding_mode="zeros",
                           algorithm="auto", out=None, accumulate=False, num_threads=None):
    return convolve.backward_weight("conv1d_backward_weight", 1, dy, x, weight_shape, stride, padding, dilation, groups,
                                    padding_mode, algorithm, out, accumulate, num_threads)


@_documented_as(conv_transpose2d, 1)
def conv_transpose1d(x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *, activation=None,
                     algorithm="auto", out=None, num_threads=None):
    return convolve.transposed("conv_transpose1d", 1, x, w, b, stride, padding, output_padding, groups, dilation,
                               activation, algorithm, out, num_threads)


@_documented_as(conv_transpose2d_backward, 1)
def conv_transpose1d_backward(dy, x, w, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *,
                              need=(True, True, True), algorithm="auto", out=(None, None, None), accumulate=False,
                              num_threads=None):
    return convolve.transposed_backward("conv_transpose1d_backward", 1, dy, x, w, stride, padding, output_padding,
                                        groups, dilation, need, algorithm, out, accumulate, num_threads)


# ---------------------------------------------------------------- 3-D

@_documented_as(conv2d, 3)
def conv3d(x, w, b=None, stride=1, padding=0, dilation=1, groups=1, *, padding_mode="zeros", activation=None,
           algorithm="auto", out=None, num_threads=None):
    return convolve.forward("conv3d", 3, x, w, b, stride, padding, dilation, groups, padding_mode, activation,
                            algorithm, out, num_threads)


@_documented_as(conv2d_backward, 3)
def conv3d_backward(dy, x, w, stride=1, padding=0, dilation=1, groups=1, *, padding_mode="zeros",
                    need=(True, True, True), algorithm="auto", out=(None, None, None), accumulate=False,
                    num_threads=None):
    return convolve.backward("conv3d_backward", 3, dy, x, w, stride, padding, dilation, groups, padding_mode, need,
                             algorithm, out, accumulate, num_threads)


@_documented_as(conv2d_backward_input, 3)
def conv3d_backward_input(dy, w, input_shape, stride=1, padding=0, dilation=1, groups=1, *, padding_mode="zeros",
                          algorithm="auto", out=None, num_threads=None):
    return convolve.backward_input("conv3d_backward_input", 3, dy, w, input_shape, stride, padding, dilation, groups,
                                   padding_mode, algorithm, out, num_threads)


@_documented_as(conv2d_backward_weight, 3)
def conv3d_backward_weight(dy, x, weight_shape, stride=1, padding=0, dilation=1, groups=1, *, padding_mode="zeros",
                           algorithm="auto", out=None, accumulate=False, num_threads=None):
    return convolve.backward_weight("conv3d_backward_weight", 3, dy, x, weight_shape, stride, padding, dilation, groups,
                                    padding_mode, algorithm, out, accumulate, num_threads)


@_documented_as(conv_transpose2d, 3)
def conv_transpose3d(x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *, activation=None,
                     algorithm="auto", out=None, num_threads=None):
    return convolve.transposed("conv_transpose3d", 3, x, w, b, stride, padding, output_padding, groups, dilation,
                               activation, algorithm, out, num_threads)


@_documented_as(conv_transpose2d_backward, 3)
def conv_transpose3d_backward(dy, x, w, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *,
                              need=(True, True, True), algorithm="auto", out=(None, None, None), accumulate=False,
                              num_threads=None):
    return convolve.transposed_backward("conv_transpose3d_backward", 3, dy, x, w, stride, padding, output_padding,
                                        groups, dilation, need, algorithm, out, accumulate, num_threads)


# ---------------------------------------------------------------- plans

def pack_weight(w, *, stride=1, dilation=1, groups=1, input_shape=None, algorithm="auto"):
    """Weights in the order in which the kernels read them, for many forward calls with the same weights.

    Parameters
    ----------
    w : array, (K, C // groups, *kernel), or (out, in) of a dense layer
    stride, dilation, groups
        Of the convolution.
    input_shape : tuple, optional
        Shape of the x to come, where known; without it the form that serves any size is kept.
    algorithm : str
        As in :func:`conv2d`.

    Returns
    -------
    PackedWeight
        Takes the place of `w` in conv1d, conv2d, conv3d and linear, and gives the same bits.

    Raises
    ------
    TypeError, ValueError
        As in :func:`conv2d`.
    """
    return packed.pack(w, stride, dilation, groups, input_shape, algorithm)


def conv_algorithms(x_shape, w_shape, *, op="forward", stride=1, padding=0, dilation=1, groups=1,
                    padding_mode="zeros"):
    """Names of the algorithms that can serve a convolution, in no order of speed.

    Parameters and errors as in :func:`explain_conv`, whose result names the one that "auto" takes.
    """
    return plans.algorithms("conv_algorithms", x_shape, w_shape, op, stride, padding, dilation, groups, padding_mode)


def explain_conv(x_shape, w_shape, *, op="forward", dtype="float32", memory_order="channels_first", num_threads=None,
                 algorithm="auto", stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros"):
    """What a convolution call with these arguments does.

    Parameters
    ----------
    x_shape, w_shape : tuples, (N, C, *spatial) and (K, C // groups, *kernel)
    op : {"forward", "backward_input", "backward_weight"}
    memory_order : {"channels_first", "channels_last"}
        Of x, or of dy for backward_input. An array of one channel fits both: its strides decide, and those of a
        contiguous one are channels-first, those of :func:`channels_last` aren't.
    Others as in :func:`conv2d`.

    Returns
    -------
    ConvPlan
        Algorithm, tiles, work items and workspace in bytes. All but `threads` and `workspace` depend on the arguments
        of the convolution alone.

    Raises
    ------
    TypeError, ValueError
        As in :func:`conv2d`; also where a named algorithm can't serve the convolution.
    """
    return plans.conv_plan("explain_conv", x_shape, w_shape, op, dtype, memory_order, num_threads, algorithm, stride,
                           padding, dilation, groups, padding_mode)
