// What the pages need beyond htmx: settings, morphing, confirmation, pending buttons, times, live state.
// No inline script or style, no eval (docs/decisions/0003-vendored-assets.md). Words come from <div id="i18n">.
(() => {
  "use strict";
  const $ = (selector, root = document) => root.querySelector(selector);
  const words = () => $("#i18n")?.dataset ?? {};
  const lang = document.documentElement.lang || "en";

  // ---- htmx -------------------------------------------------------------------------------------------------------
  Object.assign(htmx.config, {
    includeIndicatorStyles: false, // would be an inline <style>; the rules are in panel.css
    allowEval: false,
    allowScriptTags: false,
    historyCacheSize: 0, // "back" asks the server: a stored page would show old states as if they were true
    refreshOnHistoryMiss: true,
    defaultFocusScroll: false,
    responseHandling: [
      { code: "204", swap: false },
      { code: "[23]..", swap: true },
      { code: "422", swap: true }, // a form given back with its errors
      { code: "...", swap: false, error: true },
    ],
  });

  // Attributes that belong to the reader, not to the server: an open menu or a ticked row survives a live update.
  const readersOwn = (name, node) =>
    (name === "open" && /^(DETAILS|DIALOG)$/.test(node.nodeName)) ||
    (name === "checked" && node.hasAttribute("data-keep")) ||
    (name === "disabled" && node.hasAttribute("data-pending")) ||
    name === "data-pending";

  // What renews itself (data-own) is left alone by updates of what is around it.
  const keepsItself = (node, fresh) => Boolean(node.hasAttribute?.("data-own")) && node.id === fresh.id;

  // A row whose thing is gone keeps its place and its height until the page is made anew: what is below must not move.
  function rowGone(row, word) {
    row.style.height = `${row.getBoundingClientRect().height}px`;
    row.inert = true;
    row.classList.add("is-gone");
    const state = $(".cell-state", row);
    if (state) state.textContent = word;
    const pick = $("[data-keep]:checked", row);
    if (pick) {
      pick.checked = false;
      pick.dispatchEvent(new Event("change", { bubbles: true }));
    }
    return [row];
  }
  // The rows of the open drawer, and what needs attention, stay where they are, also those that ended or fell out; what is
  // new goes below them. At the end of what needs attention, and where there is too much of it, what is mended goes.
  function inTheirPlaces(shown, fragment) {
    const list = $("[data-still]", fragment);
    const rows = [...shown.children];
    if (!list || !rows.length) return;
    const fresh = [...list.children];
    if (list.matches(".drawer-rows")) fresh.reverse(); // newest last
    const stays = rows.map((row) => fresh.find((one) => one.id === row.id) ?? row.cloneNode(true));
    for (const row of stays) row.classList.toggle("is-settled", !fresh.includes(row));
    list.replaceChildren(...stays, ...fresh.filter((one) => !stays.includes(one)));
    const settled = ".attention > .is-settled";
    while (list.lastElementChild?.matches(settled)) list.lastElementChild.remove();
    const mended = list.querySelectorAll(settled);
    if (mended.length > 20) mended.forEach((row) => row.remove());
  }

  // Our own extension and not idiomorph's: that one calls Function() and treats every unknown style as inline,
  // which breaks hx-swap-oob="beforeend:...".
  htmx.defineExtension("morph", {
    isInlineSwap: (style) => style === "morph" || style === "morph:outerHTML" || style === "gone",
    handleSwap(style, target, fragment) {
      if (style === "gone") return rowGone(target, fragment.textContent.trim());
      if (style !== "morph" && !style.startsWith("morph:")) return false;
      const still = $("[data-still]", target);
      if (still && (target.id !== "drawer-body" || $("#drawer").open)) inTheirPlaces(still, fragment);
      relativeTimes(fragment); // before it is compared, so that "5 s ago" does not flicker
      return Idiomorph.morph(target, fragment.children, {
        morphStyle: style === "morph:innerHTML" ? "innerHTML" : "outerHTML",
        ignoreActiveValue: true,
        callbacks: {
          beforeNodeMorphed: (node, fresh) => !keepsItself(node, fresh),
          beforeAttributeUpdated: (name, node) => !readersOwn(name, node),
        },
      });
    },
  });

  document.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.verb !== "get") {
      event.detail.headers["X-CSRF-Token"] = $('meta[name="csrf-token"]')?.content ?? "";
    }
    // htmx forgets which button was pressed when the focus leaves it, as it does for a question; the event knows it
    const pressed = event.detail.triggeringEvent?.submitter;
    if (pressed?.name && !event.detail.formData.has(pressed.name)) event.detail.formData.set(pressed.name, pressed.value);
  });
  // A live fragment for something that is not on this page is normal: drop it before htmx calls it an error.
  document.addEventListener("htmx:sseBeforeMessage", (event) => {
    const piece = document.createElement("template");
    piece.innerHTML = event.detail.data;
    const parts = [piece, ...piece.content.querySelectorAll("template")].flatMap((t) =>
      [...t.content.querySelectorAll("[hx-swap-oob]")]);
    const here = (part) => {
      const target = part.getAttribute("hx-swap-oob").split(/:(.*)/s)[1];
      return target ? $(target) : document.getElementById(part.id);
    };
    if (!parts.some(here)) event.preventDefault();
  });

  // ---- what went wrong on the way -----------------------------------------------------------------------------------
  const toast = (detail) => document.dispatchEvent(new CustomEvent("toast", { detail })); // toasts.js

  function errorText(xhr) {
    const body = xhr.responseText ?? "";
    if ((xhr.getResponseHeader("Content-Type") ?? "").includes("json")) {
      try {
        return JSON.parse(body).msg;
      } catch {
        return "";
      }
    }
    const page = new DOMParser().parseFromString(body, "text/html");
    return ($("[data-error]", page) ?? $("main", page) ?? page.body).textContent.trim().replace(/\s+/g, " ").slice(0, 400);
  }
  document.addEventListener("htmx:responseError", ({ detail: { xhr } }) => {
    if (xhr.status === 401) return location.reload(); // the server sends to the login page, and back here
    if ((xhr.getResponseHeader("HX-Trigger") ?? "").includes("toast")) return;
    toast({ level: "error", text: errorText(xhr) || `${words().failed} (${xhr.status})` });
  });
  for (const name of ["htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(name, ({ detail: { elt } }) =>
      elt?.hasAttribute("data-look") || toast({ level: "error", text: words().unreachable })); // those ask again anyway
  }

  // ---- "are you sure", naming the thing ----------------------------------------------------------------------------
  // data-confirm="question" [data-confirm-title] [data-confirm-action="Delete"] [data-confirm-name="type this first"]
  function ask(source) {
    const dialog = $("#confirm-dialog");
    if (!dialog?.showModal) return Promise.resolve(window.confirm(source.dataset.confirm));
    const { confirm, confirmTitle, confirmAction, confirmName } = source.dataset;
    const ok = $("[value=ok]", dialog);
    const input = $("input", dialog);
    $(".dialog-title", dialog).textContent = confirmTitle || words().confirm;
    $(".dialog-text", dialog).textContent = confirm;
    ok.textContent = confirmAction || words().confirmAction;
    ok.className = "btn " + (source.hasAttribute("data-confirm-safe") ? "btn-primary" : "btn-danger");
    $(".dialog-name", dialog).hidden = !confirmName;
    $(".dialog-name strong", dialog).textContent = confirmName ?? "";
    input.value = "";
    ok.disabled = Boolean(confirmName);
    input.oninput = () => (ok.disabled = Boolean(confirmName) && input.value.trim() !== confirmName);
    dialog.returnValue = "";
    dialog.showModal();
    (confirmName ? input : $("[value=cancel]", dialog)).focus();
    return new Promise((resolve) =>
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true }));
  }

  let confirmed = null;
  document.addEventListener("submit", (event) => {
    const form = event.target;
    const source = event.submitter?.hasAttribute("data-confirm") ? event.submitter : form;
    if (form.method === "dialog" || !source.hasAttribute("data-confirm") || confirmed === form) return;
    const submitter = event.submitter;
    event.preventDefault();
    event.stopImmediatePropagation();
    ask(source).then((yes) => {
      if (!yes || !form.isConnected) return;
      confirmed = form;
      form.requestSubmit(submitter?.isConnected && submitter.form === form ? submitter : undefined);
      confirmed = null;
    });
  }, true);
  document.addEventListener("htmx:confirm", (event) => {
    const source = event.detail.elt;
    if (source.nodeName === "FORM" || !source.hasAttribute("data-confirm")) return;
    event.preventDefault();
    ask(source).then((yes) => yes && event.detail.issueRequest(true));
  });

  // ---- a pressed button rests until the answer is there ------------------------------------------------------------
  const submits = (form) => [...form.elements].filter((el) => el.type === "submit" && !el.disabled);
  function rest(form) {
    for (const button of submits(form)) {
      button.disabled = true;
      button.setAttribute("data-pending", "");
    }
    form.setAttribute("aria-busy", "true");
  }
  function wake(root) {
    for (const button of root.querySelectorAll("[data-pending]")) {
      button.disabled = false;
      button.removeAttribute("data-pending");
    }
    for (const form of [root, ...root.querySelectorAll("form")]) form.removeAttribute?.("aria-busy");
  }
  document.addEventListener("htmx:beforeRequest", ({ detail: { elt } }) => elt.nodeName === "FORM" && rest(elt));
  document.addEventListener("htmx:afterRequest", ({ detail: { elt } }) => elt.nodeName === "FORM" && wake(elt));
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.method === "dialog" || form.target) return;
    setTimeout(() => rest(form)); // after the browser has taken the pressed button's value
  });
  window.addEventListener("pageshow", (event) => event.persisted && wake(document.body));

  // ---- copy -------------------------------------------------------------------------------------------------------
  async function copy(text) {
    if (navigator.clipboard && isSecureContext) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea"); // plain http on a LAN has no clipboard API
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("copy refused");
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-copy], [data-copy-from]");
    if (!button) return;
    const from = button.dataset.copyFrom && $(button.dataset.copyFrom);
    const text = from ? (from.value ?? from.textContent) : button.dataset.copy;
    copy(text.trim()).then(
      () => toast({ level: "success", text: words().copied }),
      () => toast({ level: "error", text: words().copyFailed }));
  });

  // ---- times ------------------------------------------------------------------------------------------------------
  const ago = new Intl.RelativeTimeFormat(lang, { numeric: "auto", style: "short" });
  const full = new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "medium" });
  const day = new Intl.DateTimeFormat(lang, { dateStyle: "medium" });
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

  function relative(date, now) {
    const seconds = (date - now) / 1000;
    if (Math.abs(seconds) >= 7 * 86400) return day.format(date);
    if (Math.abs(seconds) < 5) return words().justNow;
    const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size);
    return ago.format(Math.trunc(seconds / size), unit);
  }
  function relativeTimes(root) {
    const now = Date.now();
    for (const el of root.querySelectorAll("time[data-relative], time[data-local]")) {
      const date = new Date(el.dateTime);
      if (Number.isNaN(date.getTime())) continue;
      const text = el.hasAttribute("data-local") ? full.format(date) : relative(date, now);
      if (el.textContent !== text) el.textContent = text;
      if (el.title !== full.format(date)) el.title = full.format(date);
      const stale = Number(el.dataset.staleAfter);
      if (stale) el.classList.toggle("is-stale", now - date > stale * 1000);
    }
  }
  htmx.onLoad((root) => relativeTimes(root.parentElement ?? root));
  setInterval(() => document.hidden || relativeTimes(document), 5000);
  document.addEventListener("visibilitychange", () => document.hidden || relativeTimes(document));

  // ---- what asks again from time to time, while somebody can see it: <div data-look hx-get hx-trigger="panel:look"> ------
  function look(root) {
    if (!document.hidden) root.querySelectorAll("[data-look]").forEach((part) => htmx.trigger(part, "panel:look"));
  }
  setInterval(look, 10000, document);
  document.addEventListener("visibilitychange", () => look(document));
  const looked = new WeakSet();
  htmx.onLoad((root) => {
    const parts = [root, ...root.querySelectorAll("[data-look]")];
    for (const part of parts.filter((part) => part.hasAttribute("data-look") && !looked.has(part))) {
      looked.add(part);
      if (!document.hidden) htmx.trigger(part, "panel:look");
    }
  });

  // ---- the stream of live changes: one, none while the tab is hidden; and whether it is there -----------------------
  const model = $("#live")?.cloneNode();
  const SILENCE = 40_000; // ms: the server says something every 15 s
  let last = ""; // the moment of the newest event, in seconds: from there a new stream goes on
  let heard = Date.now();

  function live(state) {
    const mark = $("#live-state");
    if (!mark || mark.dataset.state === state) return;
    mark.dataset.state = state;
    $(".live-text", mark).textContent = mark.dataset[state];
  }
  function closeStream() {
    const stream = $("#live");
    if (stream) htmx.swap(stream, "", { swapStyle: "delete" }); // htmx closes it
  }
  function openStream() {
    const stream = model.cloneNode();
    const url = new URL(stream.getAttribute("sse-connect"), location);
    if (last) url.searchParams.set("since", last);
    stream.setAttribute("sse-connect", url.pathname + url.search);
    document.body.append(stream);
    heard = Date.now();
    htmx.process(stream);
  }
  function hear(event) {
    heard = Date.now();
    last = event.lastEventId || last;
    live("live");
  }
  if (model) {
    if (document.hidden) $("#live").remove(); // opened in the background, and htmx has not begun yet
    document.addEventListener("visibilitychange", () => {
      closeStream();
      live("connecting");
      if (!document.hidden) openStream();
    });
    document.addEventListener("htmx:sseOpen", ({ detail: { source } }) => {
      heard = Date.now();
      live("live");
      source.addEventListener("beat", hear);
    });
    document.addEventListener("htmx:sseBeforeMessage", (event) => hear(event.detail));
    document.addEventListener("htmx:sseError", () => live("reconnecting"));
    setInterval(() => {
      if (document.hidden || Date.now() - heard < SILENCE) return;
      live("reconnecting"); // a connection that is dead says nothing
      closeStream();
      openStream();
    }, 5000);
  }

  // ---- the drawer of tasks stays as it was left -------------------------------------------------------------------
  const drawer = $("#drawer");
  if (drawer) {
    try {
      drawer.open = localStorage.getItem("openidcs-drawer") === "open";
    } catch { /* this browser keeps nothing: closed, as without JavaScript */ }
    drawer.addEventListener("toggle", () => {
      try {
        localStorage.setItem("openidcs-drawer", drawer.open ? "open" : "closed");
      } catch { /* the same */ }
    });
  }

  // ---- the navigation, wide or icons only: at once here, and kept by the server ------------------------------------
  document.addEventListener("submit", ({ submitter, target }) => {
    if (!target.matches(".side-size")) return;
    document.documentElement.dataset.side = submitter.value;
    for (const link of document.querySelectorAll("a.side-link")) {
      link.title = submitter.value === "narrow" ? link.textContent.trim() : "";
    }
  });
  document.addEventListener("htmx:afterRequest", ({ detail: { elt } }) => {
    if (elt.matches(".side-size")) $(`button:not([value="${document.documentElement.dataset.side}"])`, elt).focus({ preventScroll: true });
  });
  $(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }); // on a phone they do not all fit

  // ---- menus and keys ---------------------------------------------------------------------------------------------
  // Popovers work alone; where CSS cannot anchor them to their button yet, put them there.
  if (!CSS.supports("position-area", "bottom")) {
    document.addEventListener("beforetoggle", (event) => {
      const menu = event.target;
      if (event.newState !== "open" || !menu.matches?.(".menu[popover]")) return;
      const at = $(`[popovertarget="${CSS.escape(menu.id)}"]`)?.getBoundingClientRect();
      if (!at) return;
      const up = at.bottom > innerHeight * 0.65;
      Object.assign(menu.style, {
        margin: 0, left: "auto", right: `${Math.max(8, innerWidth - at.right)}px`,
        top: up ? "auto" : `${at.bottom + 4}px`, bottom: up ? `${innerHeight - at.top + 4}px` : "auto",
      });
    }, true);
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [contenteditable], dialog[open]")) return;
    const search = $("#search");
    if (!search) return;
    event.preventDefault();
    search.focus();
    search.select();
  });
})();
