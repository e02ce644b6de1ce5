// Uploads an image in pieces. What has come is the server's to know: after a break it is asked, and the rest is sent.
// A file is known again by its name, size and time of change among the rows of uploads that wait (data-upload).
(() => {
  "use strict";
  const form = document.getElementById("upload-form");
  if (!form) return;
  const words = form.dataset;
  const part = (name) => form.querySelector(name);
  const [state, bar, text] = [".upload-state", "progress", ".upload-text"].map(part);
  const [send, stop] = [part("[type=submit]"), part("[data-stop]")];
  const file = part("[type=file]");
  const pauses = [1, 2, 4, 8, 15, 30]; // seconds between tries while the panel does not answer
  const share = new Intl.NumberFormat(document.documentElement.lang || "en", { style: "percent" });
  let aborted = null;

  const pause = (seconds) =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      aborted.signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
    });
  function say(message, level = "") {
    if (text.textContent !== message) text.textContent = message;
    text.className = `upload-text ${level}`;
  }
  function left(seconds) {
    if (seconds >= 5400) return words.hours.replace("{n}", Math.round(seconds / 3600));
    if (seconds >= 90) return words.minutes.replace("{n}", Math.round(seconds / 60));
    return words.seconds.replace("{n}", Math.max(1, Math.round(seconds)));
  }

  class Refused extends Error {}

  // One request, as a program: the answer's data. Throws Refused for what trying again does not mend.
  async function ask(url, body) {
    const response = await fetch(url, {
      method: body === undefined ? "GET" : "POST",
      body,
      headers: {
        Accept: "application/json",
        "X-CSRF-Token": document.querySelector('meta[name="csrf-token"]').content,
        ...(body instanceof Blob ? { "Content-Type": "application/octet-stream" } : {}),
      },
      signal: aborted.signal,
      redirect: "error",
    });
    if (response.status === 401) throw new Refused(words.login);
    const answer = await response.json().catch(() => null);
    if (response.ok && answer) return answer.data;
    if (response.status === 409) throw Object.assign(new Error(answer?.msg), { conflict: true });
    if (answer && response.status < 500) throw new Refused(answer.msg);
    throw new Error(answer?.msg ?? String(response.status));
  }

  const url = (id, rest = "") => `${words.begin}/${id}${rest}`;

  function begun(chosen) {
    const rows = [...document.querySelectorAll("[data-upload]")];
    const row = rows.find(({ dataset }) =>
      dataset.file === chosen.name && Number(dataset.size) === chosen.size && Number(dataset.modified) === chosen.lastModified);
    return row?.dataset.upload;
  }

  async function begin(chosen) {
    const known = begun(chosen);
    if (known) {
      const found = await ask(url(known));
      say(words.resumed);
      return found;
    }
    const wanted = new FormData();
    const values = { file: chosen.name, size: chosen.size, modified: chosen.lastModified };
    for (const name of ["name", "user", "checksum"]) values[name] = part(`#upload-${name}`).value;
    for (const [name, value] of Object.entries(values)) wanted.append(name, value);
    try {
      return await ask(words.begin, wanted);
    } catch (error) {
      throw error instanceof TypeError ? error : new Refused(error.message); // nothing began: say why, at once
    }
  }

  // Send from where the server is to the end; after a break ask it where that is.
  async function run(chosen) {
    let { id, offset, size } = await begin(chosen);
    const [from, began] = [offset, Date.now()];
    let failures = 0;
    while (offset < size && !aborted.signal.aborted) {
      try {
        const piece = chosen.slice(offset, offset + Number(words.piece));
        ({ offset } = await ask(url(id, `/pieces?offset=${offset}`), piece));
        failures = 0;
        const percent = Math.floor((offset / size) * 100);
        const seconds = ((Date.now() - began) / 1000) * ((size - offset) / (offset - from));
        bar.value = percent;
        say(words.sending.replace("{part}", share.format(percent / 100)).replace("{file}", chosen.name).replace("{left}", left(seconds)));
      } catch (error) {
        if (aborted.signal.aborted || error instanceof Refused) throw error;
        if (!error.conflict) say(words.waiting, "is-warning");
        await pause(pauses[Math.min(failures++, pauses.length - 1)]);
        try {
          ({ offset } = await ask(url(id)));
        } catch (again) {
          if (again instanceof Refused) throw again;
        }
      }
    }
    if (aborted.signal.aborted) return;
    say(words.finishing);
    await ask(url(id, "/finish"), new FormData());
    file.value = "";
  }

  function working(on) {
    send.disabled = on;
    file.disabled = on;
    stop.hidden = !on;
    state.hidden = !on;
    if (on) form.setAttribute("aria-busy", "true");
    else form.removeAttribute("aria-busy");
  }
  const leaving = (event) => event.preventDefault();

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!file.files.length || aborted) return;
    aborted = new AbortController();
    bar.value = 0;
    working(true);
    window.addEventListener("beforeunload", leaving);
    try {
      await run(file.files[0]);
      if (aborted.signal.aborted) say(words.stopped);
    } catch (error) {
      const away = error instanceof TypeError; // the browser's own words for a panel that does not answer
      if (aborted.signal.aborted) say(words.stopped);
      else say(away ? words.stopped : error.message, "is-error");
    } finally {
      window.removeEventListener("beforeunload", leaving);
      aborted = null;
      working(false);
    }
  });
  stop.addEventListener("click", () => aborted?.abort());
})();
