"""A unit is never cancelled by a graceful stop: the order that was begun is delivered, and no other begins."""

import asyncio
import sys

import safepoint


async def main() -> int:
    async with safepoint.shutdown() as stop:
        with open("charged", "a") as charged, open("delivered", "a") as delivered:
            print("ready", flush=True)
            for order in stop.iter(range(100_000)):
                async with stop.unit(f"order {order}"):
                    print(order, file=charged, flush=True)
                    await asyncio.sleep(0.004)  # the parcel is handed over
                    print(order, file=delivered, flush=True)
                await asyncio.sleep(0.001)
    return stop.exit_code


sys.exit(asyncio.run(main()))
