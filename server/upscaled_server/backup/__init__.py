"""Backups: the database of one moment, and the files that it names.

contents.py    which files a database names
manifest.py    what is in a backup, with sizes and SHA-256
files.py       copying files, with what tells later whether they are right
taking.py      a backup of a data folder, while its server runs or not
restoring.py   a data folder from a backup

    BACKUP/manifest.json
    BACKUP/state.db
    BACKUP/files/…       as in the folder `blobs`; not there where files are kept in an object store
"""
