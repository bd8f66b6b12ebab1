"""The binary log of MySQL 8.0 to 9.x and MariaDB from 10.5, straight into Arrow columns.

wire -> feed (packets to events) -> window (headers by column) -> decoder (cuts, boundaries, checkpoints)
     -> tables (whose rows) -> plan (checked TABLE_MAP) -> rows (images to columns) -> ChangeBatch
"""
