"""The groups of settings: each field is declared, ranged and described once.

A group has two classes. `XRequest` holds what a user requests; None means "choose for me".
`XConfig` is resolved: the fields that `resolve` chooses have types without None. A field allows
None in both classes where its value may be absent.
"""
