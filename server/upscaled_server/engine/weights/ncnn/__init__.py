"""The ncnn format: a text that lists layers (`.param`) and their numbers one after the other (`.bin`).

ncnn's own parser is C++ that trusts its input, so a file is parsed and checked here, completely, before ncnn
sees it.
"""
