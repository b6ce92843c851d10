// Pinned photos outlive the page: this browser keeps them, of each classifier apart, until they are forgotten.

const [NAME, STORE] = ["tip-adapter", "pinned"];

const result = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

export class Pinned {
  constructor(project) {
    this.project = project;
  }

  async #work(mode, work) {
    const opening = indexedDB.open(NAME, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: ["project", "sha256"] });
    const database = await result(opening);
    try {
      const transaction = database.transaction(STORE, mode);
      // Written is what a finished transaction wrote: a full disk is told at its end.
      const finished = new Promise((resolve, reject) => {
        transaction.oncomplete = resolve;
        transaction.onabort = () => reject(transaction.error);
      });
      const [found] = await Promise.all([work(transaction.objectStore(STORE)), finished]);
      return found;
    } finally {
      database.close();
    }
  }

  // The last ones first, as they are shown.
  async all() {
    const found = await this.#work("readonly", (store) => result(store.getAll(IDBKeyRange.bound([this.project], [this.project, []]))));
    return found.sort((one, other) => other.when - one.when).map(({ file, sha256, feature, truth }) => ({ file, sha256, feature, truth }));
  }

  keep({ file, sha256, feature, truth }) {
    const { project } = this;
    return this.#work("readwrite", (store) => result(store.put({ project, sha256, file, feature, truth, when: Date.now() })));
  }

  forget(photos) {
    return this.#work("readwrite", (store) => Promise.all(photos.map(({ sha256 }) => result(store.delete([this.project, sha256])))));
  }
}
