"""The unit of information that reports use; estimators give nats."""

import math

BIT = math.log(2)  # nats
