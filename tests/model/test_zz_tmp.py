import tests.model.test_model as t
async def test_x(connection, client):
    counts = await t.explore(connection, client, examples=1, steps=1, seeded=True)
    print([k for k in t.AT_ALL if not counts[k]])
    counts = await t.explore(connection, client, examples=150, steps=30, seeded=True)
    print(sorted((counts[k],k) for k in t.OFTEN)[:8])
