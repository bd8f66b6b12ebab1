"""What a job does to the rows of a table before they are written anywhere: filter, compute, mask, leave out,
rename, add.

    transform = build(rule, schema)        once per table and schema version; ConfigError: the rule does not fit
    constant(name, value)                  a column that has one value, and that value
    unknown_columns(rule, schema)          every column that the rule names and the table has not, one ConfigError each
    transform.schema                       the table as it is behind the transform
    transform.before_columns               source columns whose old values `apply` needs in `batch.before`
    transform.apply(batch)                 the batch behind the transform; `refresh=True` for rows read by REFRESH
    SinkFilter                             what of the rows behind the transform goes to a sink that has its own filter

`rule` is a `syncd.config.TableRule`, or anything that has its attributes. All names in a rule are the source's. Filters
and computed columns see the values as they are at the source, masks come behind them, new names last.
"""

from syncd.transforms.build import Rule, build, constant, unknown_columns
from syncd.transforms.sink_filter import SinkFilter
from syncd.transforms.transform import Step, Transform

__all__ = ["Rule", "SinkFilter", "Step", "Transform", "build", "constant", "unknown_columns"]
