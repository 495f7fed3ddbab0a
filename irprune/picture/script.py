"""The script of a page with pictures: text on hovering, and coupled groups that light up.

It only reads what the page holds, and puts it in as text, never as markup. Without it the ``title``
elements and the switches, which are style rules, still work.
"""

SCRIPT = """
(function () {
  "use strict";
  var tip = document.createElement("div");
  tip.className = "irp-tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;
  document.body.appendChild(tip);

  document.querySelectorAll(".irp title").forEach(function (title) {
    var of = title.parentNode;
    of.setAttribute("data-tip", title.textContent);
    of.setAttribute("aria-label", title.textContent);
    of.removeChild(title);
  });

  function put(event) {
    var x = event.clientX + 14, y = event.clientY + 16;
    x = Math.min(x, window.innerWidth - tip.offsetWidth - 8);
    if (y + tip.offsetHeight > window.innerHeight - 8) { y = event.clientY - tip.offsetHeight - 12; }
    tip.style.left = Math.max(x, 8) + "px";
    tip.style.top = Math.max(y, 8) + "px";
  }

  function mark(within, name, on) {
    within.querySelectorAll(".edge").forEach(function (edge) {
      if (edge.getAttribute("data-a") === name || edge.getAttribute("data-b") === name) {
        edge.classList.toggle("near", on);
      }
    });
    within.querySelectorAll("[data-n]").forEach(function (other) {
      if (other.getAttribute("data-n") === name) { other.classList.toggle("same", on); }
    });
  }

  document.querySelectorAll(".irp-fig").forEach(function (fig) {
    var over = null;
    function leave() {
      if (over) { mark(fig, over.getAttribute("data-n"), false); }
      over = null;
      tip.hidden = true;
    }
    fig.addEventListener("pointerover", function (event) {
      var at = event.target.closest("[data-tip]");
      if (at === over) { return; }
      leave();
      if (!at) { return; }
      over = at;
      tip.textContent = at.getAttribute("data-tip");
      tip.hidden = false;
      put(event);
      mark(fig, at.getAttribute("data-n"), true);
    });
    fig.addEventListener("pointermove", function (event) { if (over) { put(event); } });
    fig.addEventListener("pointerleave", leave);

    var buttons = fig.querySelectorAll("button[data-group]");
    buttons.forEach(function (button) {
      button.disabled = false;
      button.addEventListener("click", function () {
        var on = button.getAttribute("aria-pressed") !== "true";
        buttons.forEach(function (b) { b.setAttribute("aria-pressed", "false"); });
        button.setAttribute("aria-pressed", String(on));
        fig.classList.toggle("lit", on);
        fig.querySelectorAll(".node").forEach(function (node) {
          var groups = (node.getAttribute("data-g") || "").split(" ");
          var member = groups.indexOf(button.getAttribute("data-group")) >= 0;
          node.classList.toggle("on", on && member);
        });
      });
    });
  });
}());
"""
