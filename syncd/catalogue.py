"""Every error code: what it means and what to do. `syncd explain CODE` and docs/errors.md are made of it.

C1xx are faults of a file, E1xx everything else. A code is never used again for something else.
"""

from __future__ import annotations

import difflib
import re
from typing import Final, NamedTuple


class Entry(NamedTuple):
    """`title` is one short line, `meaning` says when it happens, `todo` what to do then."""

    code: str
    title: str
    meaning: str
    todo: str


_ENTRIES: Final = (
    Entry(
        "C100",
        "A fault in a file",
        "A setting is wrong in a way that has no code of its own.",
        "Mend the place that the message names.",
    ),
    Entry(
        "C101",
        "The file cannot be read",
        "It is not there, is no file, may not be read, or is not UTF-8.",
        "Check the path and its permissions; save the file as UTF-8.",
    ),
    Entry(
        "C102",
        "Not YAML",
        "The text breaks a rule of YAML: a bracket or quote that is not closed, a tab, an alias without an anchor.",
        "Mend the line; a text with `: `, `#`, `{` or `*` in it goes into quotes. Indent with spaces.",
    ),
    Entry(
        "C103",
        "A key is there twice",
        "A mapping has the same key two times. YAML readers keep either one; syncd keeps neither.",
        "Take one of the two out.",
    ),
    Entry(
        "C104",
        "The file is no mapping",
        "It is empty, a list, one single value, or holds several documents.",
        "Write `setting: value` lines, one job in one file.",
    ),
    Entry(
        "C105",
        "Unknown key",
        "No setting or sink has this name at this place. Nothing unknown is ever ignored.",
        "Take the name of the hint, or one of docs/configuration.md.",
    ),
    Entry("C106", "A setting is missing", "A setting without a default is not there.", "Add it."),
    Entry(
        "C107",
        "Unknown mask",
        "The word is not one of the masks: hash, null, partial, redact.",
        'Use one of them. `hash` is keyed by `mask_salt`; the word "null" needs quotes in YAML.',
    ),
    Entry(
        "C108",
        "A value of the wrong type",
        "A text where a number belongs, or the like. `yes`, `no`, `on` and `off` are texts in YAML 1.2.",
        "Write the value as the message says: true or false, 10s, 64MiB, a list in [ ].",
    ),
    Entry(
        "C109",
        "A value that is not allowed",
        "The value is of the right type, but not in the range or not one of the words of this setting.",
        "Take one of the words, or a value in the range, that the message names.",
    ),
    Entry(
        "C110",
        "Ambiguous YAML",
        "A number with a leading zero, which some programs read as octal, or a YAML tag (`!name`).",
        "Write the number without the zero, or in quotes if it is a text; leave the tag out.",
    ),
    Entry(
        "C111",
        "A secret is not there",
        "A `${env:NAME}` or `${file:/path}` leads to a variable that is not set or a file that cannot be read.",
        "Set the variable for the process that runs syncd, or let its user read the file.",
    ),
    Entry(
        "C112",
        "Not a reference",
        "`${...}` is neither `${env:NAME}` nor `${file:/path}`.",
        "Write one of the two, or `$${` where `${` itself is meant.",
    ),
    Entry(
        "C113",
        "No plugin, or two",
        "A source, sink or queue names exactly one plugin, as in `source: {mysql: {...}}`.",
        "Name one; `syncd plugins` lists them.",
    ),
    Entry(
        "C114",
        "Neither a setting nor a plugin",
        "In a source, sink or queue every key is a setting of syncd or the name of a plugin; this one is neither.",
        "Take the name of the hint; put the plugin's own settings under the plugin's name.",
    ),
    Entry(
        "C115",
        "The plugin cannot be loaded",
        "The plugin is known, but its driver is not installed, or its code fails when it is loaded.",
        "Run the command of the hint.",
    ),
    Entry(
        "C116",
        "Not a table pattern",
        "A key of `tables` is neither `database.table`, nor a glob, nor a regular expression.",
        'Write "shop.users", "shop.*" or \'shop_(\\d+).users\', in quotes if it has * or \\ in it.',
    ),
    Entry(
        "C117",
        "No such group",
        "`\\1` in `to` or `add` stands for a group ( ) of the pattern, and the pattern has not that many.",
        "Put the part of the name that is meant into parentheses.",
    ),
    Entry(
        "C118",
        "Two patterns fit a table alike",
        "The exact name wins, then the pattern with the most literal characters; here two are equal.",
        "Name the table itself, or make one of the patterns more specific.",
    ),
    Entry(
        "C119",
        "Not a subscription",
        "`tags` is `*`, or names joined by `||`.",
        'Write it as in "orders || users".',
    ),
    Entry(
        "C120",
        "Not a filter",
        "`where` is no SQL condition, or goes beyond the subset that syncd answers exactly as the server would.",
        "See the list of what filters take in docs/configuration.md.",
    ),
    Entry(
        "C121",
        "Settings that contradict each other",
        "Two settings are given of which only one can hold, as `start` in a mode other than cdc.",
        "Keep one of them.",
    ),
    Entry("C122", "A job name is taken", "Two job files have one job name; their state would be one.", "Rename one."),
    Entry(
        "C123",
        "Columns that contradict each other",
        "A column is included and excluded, masked and excluded, or two columns get one name.",
        "Keep one of the settings.",
    ),
    Entry(
        "C124",
        "Unknown column",
        "A rule names a column that the table does not have.",
        "Take the name of a column that is there; rules use the source's names, a sink's own `where` those that the "
        "sink gets. Where such a column went, or got another name, while the table was live, the table stands still at "
        "that sink alone: mend the `where`, and `syncd apply` the job file, which loads the table anew there.",
    ),
    Entry(
        "C125",
        "A key column must stay as it is",
        "Key columns cannot be left out or masked, and the key cannot be exchanged: rows are found, compared and read "
        "again by it.",
        "Leave the key as it is. Where a key itself is private, leave the table out or give it another key.",
    ),
    Entry(
        "C126",
        "A text comparison that is not exact",
        "A filter compares texts in a way that depends on a collation which syncd cannot follow exactly.",
        "Write `column COLLATE utf8mb4_0900_bin = '...'` for a comparison by code point, or compare another column.",
    ),
    Entry(
        "C127",
        "Two tables go to one target",
        "Two tables of the source have the same target table at a sink, and rows of theirs could have the same key "
        "there. The one that was there first is copied; of tables found together, one that keeps its own name, else "
        "the one whose name comes first. The other one is refused. A pattern is refused as it stands when its tables "
        "have one target and nothing in their keys tells them apart. Two names that differ in their case alone are one "
        "at a server whose `lower_case_table_names` is not 0, as at OceanBase. Of tables of two jobs in one data "
        "directory the one that came later is refused, too; two daemons know nothing of each other.",
        "Give each another `to`, or leave some out (`skip: true`); or add a column that has another value in each, as "
        "a part of the key: `add: {shard: '\\1'}` and `key: [shard, id]`. Then load anew.",
    ),
    Entry(
        "C128",
        "Two queues in one daemon",
        "The jobs of one daemon share one queue, and two of them name another plugin or other settings of it.",
        "Say the same of the queue in each job file, or run them by two daemons with a data directory each.",
    ),
    Entry(
        "C129",
        "The data directory cannot be used",
        "It cannot be made, read or written by this user, or a file stands in its place, or its disk is full.",
        "Name another one by `--data` or `data` in the service file, run as the user who owns it, or free some space.",
    ),
    Entry(
        "C130",
        "Not there yet",
        "The file is right, and this version of syncd cannot do it yet. It is refused, since it must not be ignored.",
        "Take it out for now.",
    ),
    Entry(
        "C131",
        "The address for metrics cannot be had",
        "Another program listens there, the machine has no such address, or the user may not use the port.",
        "Give another one in the service file (`metrics: {listen: HOST:PORT}`), or `metrics: {listen: off}`.",
    ),
    Entry(
        "C132",
        "Not an expression",
        "What `compute` gives is no SQL expression, has an unknown function, or does something with types that they do "
        "not take.",
        "See the functions and types in docs/transforms.md.",
    ),
    Entry(
        "C140",
        "The file contradicts the saved state",
        "A job's state was made under other settings than the file now has.",
        "Put the setting back, or load the job anew. docs/changing.md says what may be changed.",
    ),
    Entry("E100", "An error", "Something went wrong in a way that has no code of its own.", "Read the message."),
    Entry(
        "E110",
        "A driver is not installed",
        "The plugin is part of syncd or of a package, but a module that it needs is not there.",
        "Run the command of the hint.",
    ),
    Entry("E111", "A plugin that is to come", "The plugin is planned.", "Use another one for now: `syncd plugins`."),
    Entry("E112", "Unknown plugin", "No entry point and no file in `plugin_paths` has this name.", "`syncd plugins`."),
    Entry(
        "E113",
        "A broken plugin",
        "The plugin's code fails when it is loaded, or its class lacks what the contract asks for.",
        "Mend the plugin (docs/plugin-guide.md), or install it again.",
    ),
    Entry(
        "E114",
        "A plugin folder is not there",
        "A folder of `plugin_paths` does not exist.",
        "Create it, or take it out of the service file.",
    ),
    Entry(
        "E120",
        "A passing fault",
        "A server or a network did not answer. Nothing is lost; the same call is made again.",
        "Nothing, unless it lasts: then look at the other side.",
    ),
    Entry(
        "E121",
        "The queue is full",
        "The queue has reached its limit, since a sink does not keep up. Capture waits; nothing was stored.",
        "Look at `syncd status` for the sink that lags; give the queue more room.",
    ),
    Entry(
        "E122",
        "A sink's process does not answer",
        "The sink lives in one process, and that one is starting, restarting or gone. The call is made again.",
        "Nothing, unless it lasts: then look for its error in the log.",
    ),
    Entry(
        "E130",
        "Rows were refused",
        "A sink refused some rows, each with its reason; all others of the batch are written.",
        "Mend the row at the source, or the target, then `syncd jobs resume` the table.",
    ),
    Entry(
        "E140",
        "Taken over",
        "Another process owns this work now. This one stops, and nothing that it tried was stored.",
        "Nothing: this is how two owners are kept apart. If it comes often, look for frozen or starved processes.",
    ),
    Entry(
        "E141",
        "The target was put back",
        "The marks at the sink are not those that the last write left: its database was put back from a copy. Nothing "
        "of this write was stored; the table goes on from the marks, or halts (E156).",
        "Nothing. Pause the sink before you put its database back: `syncd jobs pause JOB --sink SINK`.",
    ),
    Entry(
        "E150",
        "A halt",
        "Something that only a person can mend. The table, or the job, stands at its checkpoint.",
        "Do what the message says, then `syncd jobs resume`; a table that capture has halted needs a resync.",
    ),
    Entry(
        "E151",
        "The position is lost",
        "The source no longer has its log at the saved position: it was purged, or the log was reset, or the server "
        "was restored, so that other changes are at that place now.",
        "Resync the tables, or let the job mend its copies by itself (`policy.position_lost`). Keep the source's log "
        "for longer than the longest stop.",
    ),
    Entry(
        "E152",
        "Not understood",
        "A type, event, collation or statement that syncd does not understand, or a table that it cannot copy as the "
        "job has it, such as one without a key. Nothing of it is skipped.",
        "Leave the table out (`skip: true`), or change it at the source; then resync it. To exclude a column of a "
        "refused type does not help: its values are in each row of the log, and must be understood to be passed over.",
    ),
    Entry(
        "E153",
        "The saved state cannot be used",
        "It is damaged, made by a newer syncd, or contradicts the job file.",
        "Use the syncd that made it, or resync the table, or the whole job, as the message says.",
    ),
    Entry(
        "E154",
        "A job without a position",
        "Capture was started before the job's first position was saved, or the job has seen too many logs: there are "
        "255 epochs, and each other log and each `syncd jobs forget` takes one.",
        "Start the job with `syncd run`; if its state was removed in part, resync. Out of epochs: use a new data "
        "directory, and drop the target tables.",
    ),
    Entry(
        "E155",
        "A schema change that cannot be followed",
        "A table's key changed, values may have become other ones by a new type, a statement is not understood, or "
        "`policy.ddl` says halt-table. Under `policy.ddl.reload: resnapshot` a table whose rows have to be read anew "
        "is loaded anew by itself, beside its copies.",
        "Else change the copy by hand if need be, then resync the table.",
    ),
    Entry(
        "E156",
        "A sink and a queue that do not fit",
        "The sink remembers messages that the queue does not have: the queue was restored or replaced. Or the target "
        "was put back from a copy, and what it lacks is not in the queue any more, or was loaded after the copy.",
        "Resync the table.",
    ),
    Entry(
        "E157",
        "An incomplete barrier",
        "A schema change or TRUNCATE has not reached every lane of its table.",
        "Resync the table.",
    ),
    Entry(
        "E158",
        "A table gave up its share of the queue",
        "The queue was full, and the table with the largest share of it stood HALTED at a sink. Its queued changes "
        "were given up, so that other tables go on. The other sinks of the table are not concerned.",
        "Mend the cause; then resync the table. A halt that is mended before the queue is full costs nothing.",
    ),
    Entry(
        "E159",
        "A crash",
        "A worker met an error that it does not know. It counts as fatal, never as success.",
        "Look at the log for the stack, and report it.",
    ),
    Entry(
        "E160",
        "No table to copy",
        "No table at the source fits the job's patterns, the account may see none of them, or each one is refused.",
        "Look at the patterns, at what `syncd plan` says of each table, and with `syncd check` at the grants.",
    ),
    Entry(
        "E161",
        "Another process runs the job",
        "The job's lease is held, or was taken over, by another process.",
        "End the other process; only one daemon runs a job.",
    ),
    Entry(
        "E162",
        "A crash loop",
        "Worker processes have died again and again. Where a table was in hand at it, this table halts; else the job.",
        "Read the log lines before it; mend the cause, then `syncd jobs resume` the table, or start the daemon again.",
    ),
    Entry(
        "E163",
        "The data directory is in use",
        "Another syncd process holds the lock of this data directory.",
        "End that process, or give this one another `--data`.",
    ),
    Entry(
        "E164",
        "A table is not wanted any more",
        "A table has saved state, but no pattern of the job file fits it now.",
        "Put the pattern back, or `syncd jobs forget` the job and load anew.",
    ),
    Entry(
        "E165",
        "A start by time is not there yet",
        "The job file names a timestamp to start from.",
        "Give a position or a GTID set.",
    ),
    Entry(
        "E166",
        "No syncd data here",
        "The data directory holds no queue.",
        "Give the `--data` or `--service` that the daemon was started with.",
    ),
    Entry(
        "E167",
        "Unknown job, table or sink",
        "The saved state knows no such job, or the job no such table or sink.",
        "Use a name that the message lists; tables are written database.table.",
    ),
    Entry(
        "E168",
        "Another command is at work",
        "Another syncd command is changing the same job.",
        "Try again.",
    ),
    Entry(
        "E169",
        "The demo did not finish",
        "The demo's copy was not complete in time.",
        "Look at the log; a slow machine may need `--seconds`.",
    ),
    Entry(
        "E170",
        "A comparison cannot be decided",
        "A value with letters beyond ASCII meets a condition on a column whose collation syncd cannot follow for them.",
        "Write `column COLLATE utf8mb4_0900_bin = '...'` in the condition, then resync the table.",
    ),
    Entry(
        "E171",
        "A filter leaves the range",
        "The arithmetic of a filter goes beyond 64 bits for some row.",
        "Compare the columns without arithmetic.",
    ),
    Entry(
        "E172",
        "A computed value is not exact",
        "The expression of a computed column has no exact value for a row: a text that is no number, a number that "
        "does not fit the type, digits that would be lost.",
        "Mend the row at the source, or make the expression say what is meant (`round`, `substring`, `if`, a wider "
        "type); then resync the table.",
    ),
    Entry(
        "E176",
        "The source lacks transactions that were copied",
        "Another server answers in the source's place, promoted before it had everything: transactions were copied "
        "that it does not have, and the message names them. The copy holds what they did, and that server does not. "
        "Nothing was published from it.",
        "If the old server is still there, let the address lead to it; or bring the transactions to the new one, and "
        "start the job again. If they are given up, `policy: {lost_transactions: refresh}` mends the copies; or load "
        "anew.",
    ),
    Entry(
        "E177",
        "Another server",
        "The source's address leads to a server that has nothing to do with the one that was copied (another kind, or "
        "no transaction in common), or of which that cannot be told, since the job knows a file and a byte of the old "
        "one's log and no GTIDs. Nothing was published from it, and no policy goes on with it.",
        "Mend the address, and start the job again. If the job is to copy that server from now on, load anew.",
    ),
    Entry(
        "E180",
        "TLS was refused",
        "The server and the source's `tls` settings do not agree.",
        "Check the authority, the certificate's name, and that the server speaks TLS.",
    ),
    Entry(
        "E181",
        "The log-in was refused",
        "Wrong user or password, or the account may not come from this host.",
        "Check the `url` and `password` of the source, and the account's host.",
    ),
    Entry(
        "E182",
        "A grant is missing",
        "The account may not do what a source needs.",
        "The message names what was denied; `syncd check` prints the GRANT statements of what every job needs.",
    ),
    Entry(
        "E183",
        "A table was changed meanwhile",
        "A table was dropped, renamed or altered while it was read.",
        "One with other columns is loaded anew by itself, under `policy.ddl.reload: resnapshot`; else resync the table "
        "once the change is done.",
    ),
    Entry(
        "E184",
        "Larger than max_allowed_packet",
        "The server cannot send a row of this size.",
        "Raise max_allowed_packet at the server.",
    ),
    Entry(
        "E185",
        "The low watermark cannot be found",
        "The server offers no way to tell which changes a read is sure to see.",
        "Switch gtid_mode on, give the grants of one of the ways that the message names, or name a `marker_table`.",
    ),
    Entry(
        "E186",
        "The server writes no log",
        "The binary log is off.",
        "Start the server with --log-bin, and ROW as its format; resync a job that ran before.",
    ),
    Entry(
        "E187",
        "A value that cannot be taken",
        "A date that no calendar has, at the source or in a row that somebody else has written at a target, or a key "
        "value that cannot bound a chunk.",
        "Mend the row; or set `policy.zero_date`, which is about the source, and resync the table.",
    ),
    Entry(
        "E188",
        "A collation that cannot be followed",
        "Keys are compared by rules that syncd cannot repeat outside the server.",
        "Use another collation for the key column, or leave the table out.",
    ),
    Entry(
        "E189",
        "A prepared XA branch stands in the way",
        "The log of its PREPARE is gone, so changes may be missing.",
        "Commit or roll the branch back, and try again.",
    ),
    Entry(
        "E190",
        "The server_id is taken",
        "Another reader of the log, a replica or a job, came with the same server_id, and the server ended this one. "
        "A job has it from its name: another syncd that runs the same job in another data directory has the same one.",
        "End that one, or give each job and each replica a `server_id` of its own; then start the job again.",
    ),
    Entry(
        "E191",
        "A change that cannot be appended",
        "A row of a table without a key was updated or deleted at the source. Its copy only ever gets rows added, and "
        "nothing tells which of them is meant; nothing of the change was written.",
        "Give the table a primary key; or keep it free of updates and deletes (`deletes: ignore` at the sink leaves "
        "deletes out). Then drop the targets, `syncd jobs forget JOB`, and load anew.",
    ),
    Entry(
        "E192",
        "The target is not empty",
        "Rows are there that this load did not write, or the target was closed to what this load would write: it "
        "was filled by another job, or from another log (a server that was failed over or reset), whose rows count as "
        "newer. Rows would be left over, hidden, there twice, or not there at all.",
        "Drop the target table, then `syncd jobs resume`. Emptying alone leaves it closed to older rows. "
        "A resync of the whole job drops its targets first.",
    ),
    Entry(
        "E193",
        "No key to trace by",
        "`syncd trace` finds a row by its key, and the table has none.",
        "Look for the row at both ends; `syncd reconcile` counts how often each row is there.",
    ),
    Entry(
        "E194",
        "No consistent read",
        "A table without a key is copied in one consistent read, and the table's storage engine has none.",
        "Move the table to InnoDB, or give it a primary key.",
    ),
)

RESYNC: Final = (
    "To resync a table: `syncd jobs resync JOB --table DB.TABLE`, while the daemon runs or before it starts.\n"
    "To load a whole job anew: stop the daemon, drop the job's target tables,\n"
    "`syncd jobs forget JOB`, and start it again. docs/states.md says more."
)

CATALOGUE: Final[dict[str, Entry]] = {entry.code: entry for entry in _ENTRIES}


def explain(code: str) -> str:
    """What `syncd explain CODE` prints. KeyError, with a hint, for a code that is not there."""
    entry = CATALOGUE.get(code.strip().strip("[]").upper())
    if entry is None:
        close = difflib.get_close_matches(code.upper(), CATALOGUE, 1)
        hint = f"did you mean {close[0]}?" if close else "docs/errors.md lists them"
        raise KeyError(f"no error has the code '{code}'; {hint}")
    more = f"\n{RESYNC}\n" if re.search("resync|anew", entry.todo.lower()) else ""
    return f"{entry.code}  {entry.title}\n\n{entry.meaning}\n\nWhat to do: {entry.todo}\n{more}"


def page() -> str:
    """docs/errors.md."""
    head = (
        "# Error codes\n\n"
        "Every message ends with a code. `syncd explain CODE` prints what stands here. C1xx are faults of a file,\n"
        "E1xx all others. This page is made by `python -m syncd.config.docs`.\n\n"
        f"{RESYNC}\n"
    )
    parts = [f"\n## {e.code} {e.title}\n\n{e.meaning}\n\nWhat to do: {e.todo}\n" for e in CATALOGUE.values()]
    return head + "".join(parts)
