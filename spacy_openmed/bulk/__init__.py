"""Annotation in bulk: files of any size in, files with entities out.

    sources ─▶ reader ─▶ parts of some documents ─▶ annotator ─▶ writer ─▶ ledger (a file a part)
       ─ when all are there ─▶ join ─▶ the output

A part depends on the input and the options alone, not on who computes it or when: so a run that
was killed goes on with the parts that are missing, several machines share the parts, and the
output is the same. A part that kills is taken apart (``deaths``).
"""
