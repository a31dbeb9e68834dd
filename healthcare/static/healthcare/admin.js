/* The admin: what its widgets lack. A file of its own, because the content security policy allows no inline script. */
"use strict";

{
    const jQuery = window.django?.jQuery;

    const labelOf = (select) => select.labels[0]?.textContent.trim().replace(/:$/, "") ?? "";

    // Select2 names neither its box nor its search fields, and jQuery 3 does not move the focus to the search field.
    const nameAutocomplete = (select) => {
        const widget = jQuery(select).data("select2");
        const label = select.labels[0];
        if (!widget || !label) return;
        label.id ||= `${select.id}_label`;
        const shown = widget.$selection[0].querySelector(".select2-selection__rendered");
        widget.$selection[0].setAttribute("aria-labelledby", `${label.id} ${shown.id}`);
        if (shown.getAttribute("role") === "textbox") shown.setAttribute("aria-labelledby", label.id);
        widget.$selection[0].querySelector(".select2-search__field")?.setAttribute("aria-label", labelOf(select));
    };

    const nameSearch = ({target}) => {
        const widget = jQuery(target).data("select2");
        const list = widget.$results[0];
        const search = widget.$dropdown[0].querySelector(".select2-search__field");
        widget.$selection[0].setAttribute("aria-controls", list.id);
        list.setAttribute("aria-label", labelOf(target));
        search?.setAttribute("aria-label", `Search: ${labelOf(target)}`);
        search?.focus();
    };

    if (jQuery?.fn.select2) {
        jQuery.fn.select2.defaults.set("dropdownParent", jQuery("#content-start")); // a landmark, not the body
        const nameAll = (within) => within.querySelectorAll("select.select2-hidden-accessible").forEach(nameAutocomplete);
        jQuery(() => nameAll(document)); // after Django's autocomplete.js, which was loaded before
        document.addEventListener("formset:added", ({target}) => nameAll(target));
        jQuery(document).on("select2:open", nameSearch);
    }

    // The icons with a hint beside the filters of a double list.
    window.addEventListener("load", () => {
        for (const icon of document.querySelectorAll("span.help-tooltip[aria-label]")) icon.setAttribute("role", "img");
    });
}
