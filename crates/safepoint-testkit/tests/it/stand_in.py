"""Enough of `safepoint run` to try the storm on: stand_in.py run|results --state-dir DIR ... INPUT -- COMMAND {}

STAND_IN_BUG plants a bug: early (prints before the commit), forgetful (does not look at what is done),
careless (leaves the children of a killed run alive), leaky (leaves grandchildren), amnesic (prints some results and does not keep them), resigned (an item in progress at a kill dies).
"""
import json, os, selectors, signal, sqlite3, sys, time

BUG = os.environ.get("STAND_IN_BUG", "")
STATE = os.path.realpath(sys.argv[sys.argv.index("--state-dir") + 1])
JOB = os.path.join(STATE, "storm")
os.makedirs(JOB, exist_ok=True)
db = sqlite3.connect(os.path.join(JOB, "job.db"), isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute("PRAGMA synchronous=FULL")

if sys.argv[1] == "results":
    for index, result in db.execute("SELECT item, result FROM items WHERE state = 'done' ORDER BY item"):
        print(json.dumps({"index": index, "result": result.decode()}))
    sys.exit(0)

db.executescript("""
    BEGIN;
    CREATE TABLE IF NOT EXISTS items(item INTEGER PRIMARY KEY, state, content, result, attempts);
    CREATE TABLE IF NOT EXISTS progress(id INTEGER PRIMARY KEY, frontier, done, dead, waiting, pending);
    INSERT OR IGNORE INTO progress VALUES(1, 0, 0, 0, 0, 0);
    COMMIT;
""")
ENVIRONMENT = {**os.environ, "SAFEPOINT_STATE": JOB}


def end_left_over():
    mark = ("SAFEPOINT_STATE=" + JOB).encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass


if BUG != "careless":
    end_left_over()

cut = sys.argv.index("--")
with open(sys.argv[cut - 1]) as file:
    items = file.read().splitlines()
touched = {} if BUG == "forgetful" else dict(db.execute("SELECT item, attempts FROM items"))
todo = [(index, 1) for index in range(len(items)) if index not in touched]
running = selectors.DefaultSelector()


def start(index, attempt):
    if BUG == "resigned":
        with open(os.path.join(JOB, f"tries-{index}"), "a") as file:
            if attempt == 1 and file.tell():
                record(index, attempt, "dead", None)
                return
            file.write("x")
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os.dup2(write, 1)
        command = [items[index] if word == "{}" else word for word in sys.argv[cut + 1:]]
        os.execvpe(command[0], command, {**ENVIRONMENT, "SAFEPOINT_ATTEMPT": str(attempt)})
    os.close(write)
    exit = os.pidfd_open(pid)
    running.register(exit, selectors.EVENT_READ, (index, attempt, pid, read))


def finish(key):
    index, attempt, pid, read = key.data
    running.unregister(key.fd)
    os.close(key.fd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if BUG != "leaky":
        try:
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            pass
    output = os.read(read, 65536)
    os.close(read)
    if code and attempt < 3:
        todo.insert(0, (index, attempt + 1))
        return
    state, result = ("dead", None) if code or (BUG == "amnesic" and index % 5 == 0) else ("done", output)
    if BUG == "early" and not code:
        os.write(1, output)
        time.sleep(0.002)
    record(index, attempt, state, result)
    if BUG != "early" and not code:
        os.write(1, output)


def record(index, attempt, state, result):
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT OR REPLACE INTO items VALUES(?, ?, ?, ?, ?)", (index, state, items[index], result, attempt))
    db.execute("""UPDATE progress SET done = (SELECT count(*) FROM items WHERE state = 'done'),
        dead = (SELECT count(*) FROM items WHERE state = 'dead'), frontier = (SELECT count(*) FROM items)""")
    db.execute("COMMIT")


while todo or running.get_map():
    while todo and len(running.get_map()) < 4:
        start(*todo.pop(0))
    for key, _ in running.select() if running.get_map() else ():
        finish(key)
sys.exit(3 if db.execute("SELECT dead FROM progress").fetchone()[0] else 0)
