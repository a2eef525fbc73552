"""Which anchor is to find which object, and which of them training looks at."""

import tensorflow as tf

from app.detection.boxes import NO_OBJECT, iou

NEGATIVE, IGNORED = -1, -2


def match(anchors, labels, *, upper, lower, best=True):
    """For each anchor the object that it is to find: the row of `labels`, NEGATIVE or IGNORED.

    Forward:   positive: IoU >= upper with an object, the one of the highest IoU; and, with
               `best`, each object's anchors of the highest IoU, whatever it is;
               negative: IoU < lower with every object;  ignored: all others
    Shapes:    anchors (A, 4) or (B, A, 4), labels (B, M, 5) -> int32 (B, A)
    Source:    Ren et al., Faster R-CNN, NIPS 2015, section 3.1.2.
    """
    there = labels[..., 4] > NO_OBJECT
    overlap = iou(anchors, labels[..., :4])
    overlap = tf.where(there[:, None], overlap, -1.0)
    highest = tf.reduce_max(overlap, -1)
    row = tf.argmax(overlap, -1, output_type=tf.int32)
    found = tf.where(highest >= upper, row, tf.where(highest < lower, NEGATIVE, IGNORED))
    if best:
        of_object = tf.reduce_max(overlap, 1, keepdims=True)
        is_best = (overlap == of_object) & (of_object > 0)
        row = tf.argmax(tf.where(is_best, overlap, -1.0), -1, output_type=tf.int32)
        found = tf.where(tf.reduce_any(is_best, -1), row, found)
    return found


def matched(labels, rows):
    """(boxes (B, A, 4), classes (B, A)) of rows (B, A), as `match` gives them.

    The class of an anchor without object is NEGATIVE or IGNORED; its box is none.
    """
    found = tf.gather(labels, tf.maximum(rows, 0), batch_dims=1)
    return found[..., :4], tf.where(rows < 0, tf.cast(rows, labels.dtype), found[..., 4])


def sample(candidates, count, seed):
    """At most `count` of the candidates of each image, at random: a mask.

    Shapes:    candidates bool (B, A), count: one number or (B, 1), seed (2,) -> bool (B, A)
    """
    drawn = tf.random.stateless_uniform(tf.shape(candidates), seed)
    order = tf.argsort(tf.where(candidates, drawn, 2.0), stable=True)
    return candidates & (tf.argsort(order) < count)


def balanced(classes, count, positives, seed):
    """A mask of `count` anchors an image, of which at most so many `positives`.

    Where there are fewer positives, negatives take their place, as in Faster R-CNN.

    Shapes:    classes (B, A) as of `matched` -> bool (B, A)
    """
    first, second = tf.unstack(tf.random.split(seed, 2))
    chosen = sample(classes >= 0, positives, first)
    left = count - tf.reduce_sum(tf.cast(chosen, tf.int32), -1, keepdims=True)
    return chosen | sample(classes == NEGATIVE, left, second)


def seed_of(predictions):
    """A seed (2,) out of the bits of what is predicted: another in each step, the same again."""
    total = tf.reduce_sum(tf.cast(tf.stop_gradient(predictions), tf.float32))
    return tf.stack([tf.bitcast(total, tf.int32), 0])


def placed(values, slots, count):
    """The targets (B, count, 5) of slots to which at most one object belongs, a cell or an anchor.

    An empty slot has the class NEGATIVE; of several objects in one slot the last stays.

    Shapes:    values (B, M, 5), slots int32 (B, M), -1 for a row without object -> (B, count, 5)
    """
    has = tf.one_hot(slots, count) * tf.range(1.0, tf.shape(slots)[1] + 1)[:, None]
    found = tf.gather(values, tf.argmax(has, 1), batch_dims=1)
    empty = tf.constant([0.0, 0, 0, 0, NEGATIVE])
    return tf.where(tf.reduce_any(has > 0, 1)[..., None], found, empty)
