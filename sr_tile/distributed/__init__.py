"""Many images over many machines, on Ray Data's operators (extra `ray`).

    ray.data.from_items -> decode (tasks) -> network (actors, one engine each) -> encode and write (tasks) -> report

`storage` reaches files by path or URL, `steps` is what the operators do (no Ray in it), `ray` strings them together.
"""
