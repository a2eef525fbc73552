"""Max pooling with indices in lean training, and unpooling: both from who won, a byte a window."""

from custom_layers.lean_links import Kind
from custom_layers.unpooling import transpositions, unpooled_padding
from custom_layers.windows import dimensions, resolve_padding
from custom_layers.winners import Winners


def nhwc(shape, layer):
    """The shape of a layer's images with the channels last."""
    n, *others = shape
    return (n, *others) if layer.data_format == "channels_last" else (n, *others[1:], others[0])


class _OfWindows(Kind):
    """What the three links share: the settings of a pooling layer, and its windows."""

    def __init__(self, layer):
        self.pool_size, self.strides, self.padding = layer.pool_size, layer.strides, layer.padding
        self.to_last, self.from_last = transpositions(layer.data_format)

    def windows(self, image):
        """Those over `image` (N, H, W, C)."""
        pads = resolve_padding(image, self.pool_size, self.strides, self.padding)
        return Winners(dimensions(image), self.pool_size, self.strides, pads)


class Winner(_OfWindows):
    """x -> who won in each window of x, as `Winners` counts them; it has no gradient."""

    reads, cheap = "", False

    def forward(self, xs, ws):
        x = self.to_last(xs[0])
        return self.windows(x).largest(x)[1], None

    def backward(self, dy, xs, y, ws, memo):
        return (None,), ()


class PoolByWinner(_OfWindows):
    """x, winner -> what stands in x at the winners' places: the largest value of each window.

    Forward:   `max_pool_with_indices`, whose maxima are found together with the winners
    Backward:  dx at the winner of each window += dy, 0 elsewhere
    """

    reads, cheap = "i", False

    def forward(self, xs, ws):
        x = self.to_last(xs[0])
        windows = self.windows(x)
        return self.from_last(windows.largest(x)[0]), windows

    def backward(self, dy, xs, y, ws, memo):
        return (self.from_last(memo.scatter(self.to_last(dy), xs[1])), None), ()


class Unpool(_OfWindows):
    """y, winner -> x with each value of y at its winner's place, zeros elsewhere: `max_unpool`.

    Of x the shape is given, as (N, H, W, C).

    Backward:  dy = what stands in dx at the winners' places
    """

    reads = "i"

    def __init__(self, layer, image):
        super().__init__(layer)
        self.size = image[1:3]

    def windows(self, y):
        """Those over the image that y (N, OH, OW, C) is put into."""
        n, *pooled, c = dimensions(y)
        pads = unpooled_padding(pooled, self.size, self.pool_size, self.strides, self.padding)
        return Winners((n, *self.size, c), self.pool_size, self.strides, pads)

    def forward(self, xs, ws):
        y = self.to_last(xs[0])
        windows = self.windows(y)
        return self.from_last(windows.scatter(y, xs[1])), windows

    def backward(self, dy, xs, y, ws, memo):
        return (self.from_last(memo.gather(self.to_last(dy), xs[1])), None), ()
