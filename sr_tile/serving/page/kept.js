// Pictures and what was asked for them, kept by the browser for this tab, so that a reload loses nothing.
// Where it cannot (a private window, a full disk), the page works all the same.

const TAB = "sr-tile-tab";

/** A name that nobody else has; crypto.randomUUID is missing where the server is reached by plain http. */
export const newId = () => [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join("");

const tab = sessionStorage.getItem(TAB) ?? newId();
sessionStorage.setItem(TAB, tab);

const opened = new Promise((resolve) => {
  try {
    const request = indexedDB.open("sr-tile", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("files");
      request.result.createObjectStore("pictures", { keyPath: "id" });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve(null);
  } catch {
    resolve(null);
  }
});

/** Do something with both stores; what `action` returns is a request whose result is given back, or undefined. */
async function stores(action) {
  const database = await opened;
  if (!database) return undefined;
  return new Promise((resolve) => {
    try {
      const transaction = database.transaction(["files", "pictures"], "readwrite");
      const request = action(transaction.objectStore("files"), transaction.objectStore("pictures"));
      transaction.oncomplete = () => resolve(request?.result);
      transaction.onerror = transaction.onabort = () => resolve(undefined);
    } catch {
      resolve(undefined);
    }
  });
}

export const keepFile = (id, file) => stores((files) => files.put(file, id));
export const keep = (record) => stores((_, pictures) => pictures.put({ ...record, tab, touched: Date.now() }));
export const drop = (id) => stores((files, pictures) => {
  files.delete(id);
  pictures.delete(id);
});

/** The pictures of this tab, in the order in which they were added; those of tabs that are long gone are removed. */
export async function restored(seconds) {
  const records = (await stores((_, pictures) => pictures.getAll())) ?? [];
  const found = [];
  for (const record of records.sort((a, b) => a.added - b.added)) {
    if (record.tab !== tab) {
      if (record.touched < Date.now() - 1000 * seconds) drop(record.id);
      continue;
    }
    const file = await stores((files) => files.get(record.id));
    if (file) found.push({ ...record, file });
    else drop(record.id);
  }
  return found;
}
