"""`asyncio.run` and Ctrl-C: the coroutine is cancelled at the `await` where it is, in the middle of an item."""

import asyncio


async def main() -> None:
    with open("charged", "a") as charged, open("delivered", "a") as delivered:
        print("ready", flush=True)
        for order in range(100_000):
            print(order, file=charged, flush=True)
            await asyncio.sleep(0.004)  # the parcel is handed over
            print(order, file=delivered, flush=True)
            await asyncio.sleep(0.001)


asyncio.run(main())
