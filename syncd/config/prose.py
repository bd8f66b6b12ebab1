"""What docs/configuration.md says before the tables."""

HEAD = """# Configuration

This page is made from the types that validate the files: `python -m syncd.config.docs`. The same types make the JSON
Schemas in [schema/](schema/), which editors understand. Runnable jobs are in `configs/`.

Files are YAML 1.2 in UTF-8: `yes`, `no`, `on` and `off` are texts, a number does not begin with 0, a key is there once.
Anchors, aliases and `<<` work; keys of the top level that begin with `x-` are a place for them. Nothing unknown is
ignored: `syncd validate` tells all faults of a file at once, each with its line and column, and `syncd explain CODE`
says more about one.

Sizes are bytes or texts like `64MiB` and `8MB`; durations are seconds or texts like `500ms`, `10s`, `5m`, `2h`, `1d`.

## Secrets

`${env:NAME}` and `${file:/path}` stand in any text, `$${` for a plain `${`. They are put in by the process that runs
the job, when it loads it; a relative path counts from the file. What they hold is shown nowhere: not in messages, logs,
`explain`, nor in the saved state. A password in the clear works and is warned of.

## Table patterns

| pattern | read as | when |
|---|---|---|
| `shop.users` | this table | it has no special character |
| `` `my db`.`a.b+c` `` | this table, whatever its name; a backquote in it twice | it has a backquote |
| `shop.*`, `*.log_?` | glob: `*` any run, `?` one character; the first dot ends the database | it has `*` or `?` |
| `shop_(\\d+).orders` | a Python regular expression for all of `database.table` | it has a special character |

Special characters are <code>\\ ( ) [ ] { } &#124; + ^</code>.

The exact name wins, then the pattern with the most literal characters (letters, digits and `_` outside of classes and
escapes); two that are equal are a fault when a table fits both. The winner says all about the table: patterns are not
merged. In `to` and `add`, `\\1` is the first group of a regular expression.

A pattern that fits no table, also one with `skip: true`, is warned of by `check` and `plan`, and in the log of the
first run. Views and sequences are left out with a warning, unless they are named exactly: then they are refused.

Of two tables that go to the same target at a sink, and whose rows could have the same key there, the one that was there
first is copied; of two that are found together, one that keeps its own name, else the one whose name comes first. The
other one is refused (C127), also when it is created while the job runs.

Several tables go into one target when an added column of the key tells them apart:

```yaml
tables:
  'shop_(\\d+).orders': {to: shop.orders, add: {shard: '\\1'}, key: [shard, id]}
```

See [many tables into one](many-into-one.md). The column has another value in each of them: texts
that differ only in spaces at their end are the same.

## Masks

| mask | gives |
|---|---|
| `hash` | BLAKE2b-256 of the value's text, keyed by `mask_salt`, as 64 hex digits |
| `null` | NULL; in YAML the word needs quotes |
| `partial` | `****` and the last four characters; `****` alone for texts shorter than eight |
| `redact` | `***` |

NULL stays NULL. Masks work in capture and in snapshot readers, before anything is written anywhere, on old values too.
A key column cannot be masked: its rows could never be read again at the source.

## Computed columns

```yaml
tables:
  shop.users:
    compute:
      email_domain: split(email, '@', 2)         # a new column
      full_name: "concat(first, ' ', last)"
      balance: cast(balance as decimal(18,2))    # takes the place of the source's
      city: address ->> '$.city'
    columns: {exclude: [first, last]}
```

Each is an SQL expression over the row as it is at the source, evaluated by Arrow, alike in snapshot and log. Names,
types and whether they take NULL are known before the first row; `syncd plan` shows them. A value that does not fit is
refused by name, never rounded, cut or turned into NULL. [transforms.md](transforms.md) says what there is, and how it
behaves.

## Filters

`where` takes a part of MySQL's SQL: columns, texts, numbers, `TRUE`, `FALSE`, `NULL`, `DATE '...'`; `=`, `<>`, `<`,
`<=`, `>`, `>=`, `<=>`, `AND`, `OR`, `NOT`, `XOR`, `IN`, `BETWEEN`, `LIKE`, `IS NULL`, `IS TRUE`, `IS FALSE`; `+`, `-`,
`*`, `DIV`, `%` and parentheses. Like is compared with like: no text with a number. What could not be answered exactly
as the server would is refused by name, before anything runs:

- Texts are equal or alike as the column's collation says, for constants of printable ASCII. Where a value beyond ASCII
  meets one and only the server could judge, the table halts. `column COLLATE utf8mb4_0900_bin = '...'` compares by code
  point, with any constant, and has no such case; `<`, `>` and `BETWEEN` on texts need it.
- A `TIMESTAMP` is compared with a time that has a zone: `'2026-05-01 00:00:00+00:00'`.

A row that stops matching is deleted at the sinks, one that starts matching is written.

A table's `where` leaves rows out for all sinks, in capture. A sink's own leaves them out at that sink alone:

```yaml
sinks:
  germany: {mysql: {url: "mysql://db1/shop"}, where: {"shop.users": "land = 'DE'", "shop.order*": "total >= 100"}}
  archive: {parquet: {path: /lake}, where: "made < '2026-01-01'"}
```

One condition is for all tables of the sink. In a mapping the table patterns are those of `tables`: the source's names,
the most specific one holds; a table that none fits goes to the sink whole, and so does one with `TRUE`.

- It looks at **the columns as the sink gets them**: behind renames, masks, computed and added columns. It sees a masked
  column's masked values, which `plan` warns of. `plan` shows the condition for each table and sink. A condition that
  does not fit a table halts that table at that sink (C124 and others), no other.
- While a table is loaded, rows that do not match are left out. Later a changed row that does not match is a DELETE of
  its key, whether it was there or not: no old values are needed, and none of its values go to the sink
  ([why](adr/0020-a-sinks-filter-goes-by-the-row-as-it-is-now.md)). Sinks with versions keep a tombstone for it a while,
  as for any delete. NULL is not a match.
- With `deletes: ignore` a row that stops matching stays as it was when it last matched; reconcile counts it among those
  that the sink keeps. `deletes: soft` marks it at MySQL and OceanBase; sinks with versions (ClickHouse, Parquet) would
  need all values of rows that are left out for that, so `soft` and `where` do not go together there (C121).
- Of tables without a key (`keyless: append`), INSERTs that do not match are left out; an UPDATE or DELETE halts the
  table as ever.
- A schema change by which the condition no longer fits (its column is gone, or has another name) halts the table at
  that sink, in front of the change; the other sinks go on. Mend the condition and [apply](changing.md) the file.
- `reconcile` and `--repair` compare the sink with the source's rows that match.
- Another condition, or none any more, loads the tables that it is about anew at that sink ([changing](changing.md)).
"""
