// Questions to the server. A lane is for questions of which only the newest counts.

const TAB = Math.random().toString(36).slice(2, 12);

export class Problem extends Error {}

// The address of a question; values that are null are left out.
export function address(path, values = {}) {
  const parts = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) if (value !== null && value !== undefined) parts.set(key, value);
  const query = parts.toString();
  return query ? `${path}?${query}` : path;
}

export const photoAt = (photo, what) => `/api/photos/${encodeURIComponent(photo)}/${what}`;

async function checked(answer) {
  if (answer.ok) return answer;
  const text = await answer.text();
  let problem = text;
  try { problem = JSON.parse(text).problem ?? text; } catch { /* it is plain text */ }
  throw new Problem(problem || `the server answered ${answer.status}`);
}

export async function ask(path, values) {
  return (await checked(await reach(address(path, values)))).json();
}

async function reach(where, options) {
  try {
    return await fetch(where, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("the server does not answer: is zfkernels serve still running?");
  }
}

export async function send(file) {
  const headers = { "x-name": encodeURIComponent(file.name ?? "") };
  return (await checked(await reach("/api/photos", { method: "POST", body: file, headers }))).json();
}

export class Lane {
  constructor(name) { this.name = `${TAB}-${name}`; }

  // The answer as `read` has it; null where a newer question was asked meanwhile.
  async ask(path, values, read = (answer) => answer.json()) {
    this.stop();
    const mine = this.control = new AbortController();
    try {
      const answer = await checked(await reach(address(path, { ...values, tab: this.name }), { signal: mine.signal }));
      if (answer.status === 204) return null; // stale already when its turn came
      const result = await read(answer);
      return mine.signal.aborted ? null : result;
    } catch (error) {
      if (mine.signal.aborted || error.name === "AbortError") return null;
      throw error;
    }
  }

  stop() { this.control?.abort(); }
}
