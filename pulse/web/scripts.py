"""What runs in the visitor's browser. The keyboard works as buttons do."""

# A click on a card.
CHOOSE = """
element.addEventListener('click', (event) => {
    const card = event.target.closest('[data-choice]');
    if (!card) return;
    element.querySelectorAll('[data-choice]').forEach(
        (other) => other.setAttribute('aria-pressed', other === card));
    trigger('select', {index: Number(card.dataset.choice)});
});
"""
# The slider between two pictures.
SLIDE = """
element.addEventListener('input', (event) => {
    event.target.parentElement.style.setProperty('--at', event.target.value + '%');
});
"""
# On a phone the faces are below the settings.
SCROLL = """
() => document.querySelector('#status').scrollIntoView({behavior: 'smooth', block: 'nearest'})
"""
