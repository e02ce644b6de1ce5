// Blocking, in <head>: Tabler wants light or dark on <html>; the server wrote "auto" when the reader wants the system's.
(function () {
  "use strict";
  var root = document.documentElement;
  root.dataset.js = ""; // what needs scripts is shown from the first paint on
  if (root.dataset.theme !== "auto") return;
  var dark = matchMedia("(prefers-color-scheme: dark)");
  function apply() {
    root.setAttribute("data-bs-theme", dark.matches ? "dark" : "light");
  }
  apply();
  dark.addEventListener("change", apply);
})();
